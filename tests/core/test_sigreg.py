import math

import numpy as np
import pytest
import torch
from torch import nn

from ragcun_cli.core.sigreg import (
    collapse_value,
    expected_sigreg,
    null_mean,
    sigreg,
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


@pytest.mark.parametrize(("n", "draws"), [(64, 20), (256, 20)])
def test_a_perfect_gaussian_scores_about_1_05_whatever_the_batch(n, draws):
    values = [
        sigreg(gaussian(n, 512, seed=seed), unit_directions(256, 512, seed=1000 + seed)).item()
        for seed in range(draws)
    ]
    assert np.mean(values) == pytest.approx(1.0525, abs=0.03)


@pytest.mark.parametrize("n", [1, 64, 500])
def test_total_collapse_scores_0_402_for_each_row(n):
    value = sigreg(torch.zeros(n, 32), unit_directions(10, 32, seed=0)).item()
    assert value == pytest.approx(0.402 * n, rel=1e-3)


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


def test_the_order_of_rows_and_of_directions_does_not_matter():
    embeddings, directions = 1.5 * gaussian(30, 12), unit_directions(20, 12, seed=0)
    value = sigreg(embeddings, directions).item()
    assert sigreg(embeddings.flip(0), directions).item() == pytest.approx(value, rel=1e-5)
    assert sigreg(embeddings, directions.flip(1)).item() == pytest.approx(value, rel=1e-5)


def test_sigreg_is_even_in_the_embeddings():
    embeddings, directions = gaussian(30, 12) + 1, unit_directions(20, 12, seed=0)
    value = sigreg(embeddings, directions).item()
    assert sigreg(-embeddings, directions).item() == pytest.approx(value, rel=1e-6)


def test_the_gradient_of_sigreg_is_that_of_finite_differences():
    embeddings, directions = 1.5 * gaussian(6, 4) + 0.3, unit_directions(8, 4, seed=2)
    leaf = embeddings.clone().requires_grad_()
    sigreg(leaf, directions).backward()
    step = 1e-5
    for row, column in [(0, 0), (2, 3), (5, 1)]:
        nudge = torch.zeros(6, 4, dtype=torch.float64)
        nudge[row, column] = step
        above, below = (slow_sigreg(embeddings + sign * nudge, directions) for sign in (1, -1))
        slope = (above - below) / (2 * step)
        assert leaf.grad[row, column].item() == pytest.approx(slope, rel=1e-3, abs=1e-4)


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
    embeddings, directions = gaussian(32, 16).bfloat16(), unit_directions(16, 16, seed=0)
    value = sigreg(embeddings, directions)
    assert value.item() == sigreg(embeddings.float(), directions).item()


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


