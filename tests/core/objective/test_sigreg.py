import math

import numpy as np
import pytest
import torch
from torch import nn

from ragcun_cli.core.objective.sigreg import (
    collapse_value,
    expected_sigreg,
    null_mean,
    sigreg,
    unbiased_sigreg,
    unit_directions,
)

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives


def gaussian(*shape, seed=0, **kwargs):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kwargs)


def slow_sigreg(embeddings, directions, *, knots=17, t_max=3.0):
    """The definition, one direction and one knot at a time, in float64 with complex numbers."""
    rows, columns = embeddings.double().numpy(), directions.double().numpy()
    times = np.linspace(0, t_max, knots)
    statistics = []
    for direction in columns.T:
        projected = [float(row @ direction) for row in rows]
        heights = []
        for t in times:
            characteristic = sum(np.exp(1j * t * x) for x in projected) / len(projected)
            gap = abs(characteristic - math.exp(-t * t / 2)) ** 2
            heights.append(gap * math.exp(-t * t / 2))
        statistics.append(2 * len(rows) * np.trapezoid(heights, times))
    return float(np.mean(statistics))


@pytest.mark.parametrize(
    ("n", "d", "spread", "offset"), [(2, 3, 1, 0), (9, 5, 3, 1), (40, 16, 0.2, -2)]
)
def test_sigreg_is_the_epps_pulley_integral_of_its_definition(n, d, spread, offset):
    embeddings, directions = spread * gaussian(n, d) + offset, unit_directions(7, d, seed=3)
    expected = slow_sigreg(embeddings, directions)
    assert sigreg(embeddings, directions).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("knots", "t_max"), [(3, 1.0), (33, 5.0)])
def test_sigreg_integrates_over_the_grid_it_is_given(knots, t_max):
    embeddings, directions = 2 * gaussian(8, 4), unit_directions(5, 4, seed=1)
    value = sigreg(embeddings, directions, knots=knots, t_max=t_max).item()
    expected = slow_sigreg(embeddings, directions, knots=knots, t_max=t_max)
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("n", "draws", "tolerance"), [(64, 40, 0.02), (1024, 40, 0.02), (8192, 10, 0.03)]
)
def test_a_perfect_gaussian_scores_1_0525_whatever_the_batch(n, draws, tolerance):
    values = [
        sigreg(gaussian(n, 512, seed=seed), unit_directions(256, 512, seed=1000 + seed)).item()
        for seed in range(draws)
    ]
    assert np.mean(values) == pytest.approx(1.0525, abs=tolerance)
    assert null_mean() == pytest.approx(1.0525, abs=5e-5)


def test_the_papers_grid_is_nine_knots_to_five():
    # 17 knots on [-5, 5] by the trapezoid rule, as Algorithm 1 has it.
    embeddings, directions = 1.3 * gaussian(20, 6) + 0.2, unit_directions(11, 6, seed=1)
    times = np.linspace(-5, 5, 17)
    projected = embeddings.double().numpy() @ directions.double().numpy()
    seen = np.exp(1j * times[:, None, None] * projected).mean(1)
    window = np.exp(-(times**2) / 2)[:, None]
    statistics = 20 * np.trapezoid(abs(seen - window) ** 2 * window, times, axis=0)
    value = sigreg(embeddings, directions, knots=9, t_max=5.0).item()
    assert value == pytest.approx(statistics.mean(), rel=1e-5)
    assert null_mean(knots=9, t_max=5.0) == pytest.approx(1.0594, abs=5e-5)


@pytest.mark.parametrize("n", [1, 64, 500])
def test_total_collapse_scores_0_402_for_each_row(n):
    value = sigreg(torch.zeros(n, 32), unit_directions(10, 32, seed=0)).item()
    assert value == pytest.approx(0.402 * n, rel=1e-3)
    assert value == pytest.approx(collapse_value() * n, rel=1e-6)


def test_rows_of_length_1_in_512_dimensions_score_as_badly_as_collapse():
    rows = nn.functional.normalize(gaussian(256, 512), dim=1)
    value = sigreg(rows, unit_directions(256, 512, seed=1)).item()
    assert value == pytest.approx(0.399 * 256, rel=5e-3)


def test_without_its_factor_the_value_is_divided_by_the_number_of_rows():
    embeddings, directions = gaussian(24, 6), unit_directions(9, 6, seed=0)
    scaled = sigreg(embeddings, directions).item()
    plain = sigreg(embeddings, directions, scaled_by_batch=False).item()
    assert plain == pytest.approx(scaled / 24, rel=1e-6)


def test_turning_embeddings_and_directions_together_changes_nothing():
    embeddings, directions = 1.5 * gaussian(30, 12), unit_directions(20, 12, seed=0)
    turn = torch.linalg.qr(gaussian(12, 12, seed=5, dtype=torch.float64))[0].float()
    turned = sigreg(embeddings @ turn, turn.T @ directions).item()
    assert turned == pytest.approx(sigreg(embeddings, directions).item(), rel=1e-4)


def test_the_order_of_rows_does_not_change_a_bit_and_that_of_directions_hardly_one():
    embeddings, directions = 1.5 * gaussian(300, 12), unit_directions(20, 12, seed=0)
    value = sigreg(embeddings, directions)
    for seed in range(5):
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(sigreg(embeddings[order], directions), value)
    assert sigreg(embeddings, directions.flip(1)).item() == pytest.approx(value.item(), rel=1e-5)


def test_sigreg_is_even_in_the_embeddings():
    embeddings, directions = gaussian(30, 12) + 1, unit_directions(20, 12, seed=0)
    value = sigreg(embeddings, directions).item()
    assert sigreg(-embeddings, directions).item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("scaled_by_batch", [True, False])
def test_the_gradient_of_sigreg_is_that_of_finite_differences(scaled_by_batch):
    directions = unit_directions(8, 4, seed=2).double()
    embeddings = (1.5 * gaussian(6, 4, dtype=torch.float64) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda rows: sigreg(rows, directions, scaled_by_batch=scaled_by_batch), embeddings
    )


def test_many_directions_are_taken_in_blocks_that_change_nothing(monkeypatch):
    embeddings, directions = 1.5 * gaussian(50, 12), unit_directions(64, 12, seed=0)
    results = []
    for at_once in (2**20, 50 * 7):
        monkeypatch.setattr("ragcun_cli.core.objective.sigreg._ELEMENTS_AT_ONCE", at_once)
        leaf = embeddings.clone().requires_grad_()
        value = sigreg(leaf, directions)
        value.backward()
        results.append((value.item(), leaf.grad))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-6)


def test_descending_sigreg_leads_collapsed_embeddings_to_a_gaussian_score():
    embeddings = (0.1 * gaussian(64, 4)).requires_grad_()
    optimiser = torch.optim.Adam([embeddings], lr=0.1)
    for step in range(60):
        optimiser.zero_grad()
        sigreg(embeddings, unit_directions(32, 4, seed=step)).backward()
        optimiser.step()
    with torch.no_grad():
        assert sigreg(embeddings, unit_directions(256, 4, seed=9999)).item() < 1.0525
    assert embeddings.std().item() == pytest.approx(1, abs=0.1)


def test_autocast_does_not_reach_sigreg():
    embeddings, directions = gaussian(32, 16), unit_directions(16, 16, seed=0)
    expected = sigreg(embeddings, directions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sigreg(embeddings, directions)
    assert inside.dtype == torch.float32
    assert inside.item() == expected.item()


def test_half_precision_embeddings_are_widened_first():
    rows = 1.2 * gaussian(256, 512)
    directions = unit_directions(64, 512, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = sigreg(rows.bfloat16(), directions)
    assert value.item() == sigreg(rows.bfloat16().float(), directions).item()
    assert value.item() == pytest.approx(sigreg(rows, directions).item(), rel=1e-3)


@pytest.mark.parametrize("n", [64, 1000])
def test_the_expectation_for_a_gaussian_is_the_mean_over_draws(n):
    generator = torch.Generator().manual_seed(3)
    mean = 0.1 * torch.randn(24, generator=generator)
    root = torch.randn(24, 24, generator=generator) / 5
    directions = unit_directions(64, 24, seed=1)
    draws = [
        sigreg(torch.randn(n, 24, generator=generator) @ root.T + mean, directions).item()
        for _ in range(200)
    ]
    expected = expected_sigreg(mean, root @ root.T, directions, rows=n, knots=17, t_max=3.0)
    assert np.mean(draws) == pytest.approx(expected, rel=0.01)


def test_the_expectation_for_the_standard_gaussian_is_the_null_mean():
    arguments = {"knots": 17, "t_max": 3.0, "rows": 777}
    value = expected_sigreg(
        torch.zeros(9), torch.eye(9), unit_directions(5, 9, seed=0), **arguments
    )
    assert value == pytest.approx(null_mean(), rel=1e-6)


def test_directions_are_unit_columns_that_depend_on_the_seed_alone():
    first, again, other = (unit_directions(50, 30, seed=seed) for seed in (4, 4, 5))
    assert first.shape == (30, 50)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(50))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_drawing_directions_leaves_the_global_generator_alone():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    unit_directions(50, 30, seed=4)
    assert torch.equal(before, torch.get_rng_state())


def test_directions_favour_no_axis():
    directions = unit_directions(20_000, 5, seed=0)
    torch.testing.assert_close(directions.mean(1), torch.zeros(5), rtol=0, atol=0.02)
    moments = directions @ directions.T / 20_000
    torch.testing.assert_close(moments, torch.eye(5) / 5, rtol=0, atol=0.01)


@pytest.mark.parametrize("rows", [2, 30, 300])
def test_the_unbiased_statistic_of_a_gaussian_is_0_in_the_mean_at_any_n(rows):
    drawn = [
        unbiased_sigreg(
            gaussian(rows, 16, seed=seed),
            unit_directions(64, 16, seed=seed),
        )
        for seed in range(300)
    ]
    error = float(np.std(drawn)) / 300**0.5
    assert abs(np.mean(drawn)) < 3.5 * error
    assert error < 0.05 / rows


def test_the_unbiased_statistic_estimates_the_same_at_every_n():
    scales = torch.linspace(0.3, 1.7, 16)
    directions = unit_directions(256, 16, seed=0)
    truth = expected_sigreg(
        torch.full((16,), 0.5), torch.diag(scales**2), directions, rows=10**9, knots=17, t_max=3.0
    )
    means = []
    for rows in (10, 100):
        drawn = [
            unbiased_sigreg(
                gaussian(rows, 16, seed=seed) * scales + 0.5,
                directions,
            )
            for seed in range(400)
        ]
        means.append(np.mean(drawn))
    assert means == pytest.approx([truth / 10**9] * 2, rel=0.05)


def test_the_unbiased_statistic_is_sigreg_with_the_square_estimated_without_bias():
    rows = gaussian(40, 5, dtype=torch.float64)
    directions = unit_directions(7, 5, seed=1).double()
    times = torch.linspace(0, 3, 17, dtype=torch.float64)
    phases = times[:, None, None] * (rows @ directions)[None]
    seen = torch.exp(1j * phases).mean(1)
    normal = torch.exp(-(times**2) / 2)[:, None]
    square = (40 * seen.abs() ** 2 - 1) / 39
    values = (square - 2 * normal * seen.real + normal**2) * normal
    expected = 2 * torch.trapezoid(values, times, dim=0).mean()
    assert unbiased_sigreg(rows, directions) == pytest.approx(float(expected), rel=1e-6)


def test_the_unbiased_statistic_does_not_move_with_the_order_and_knows_a_point():
    rows = gaussian(50, 6)
    directions = unit_directions(32, 6, seed=1)
    assert unbiased_sigreg(rows.flip(0), directions) == unbiased_sigreg(rows, directions)
    assert unbiased_sigreg(0 * rows, directions) == pytest.approx(collapse_value())
