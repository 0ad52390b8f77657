import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ragcun_cli.core.losses import (
    ObjectiveSettings,
    RetrievalLoss,
    cosine_logits,
    euclidean_logits,
    info_nce,
    objective_terms,
    sigreg,
    spread_out,
    unit_deviation,
    unit_directions,
)

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives

SETTINGS = ObjectiveSettings(
    contrastive="euclidean",
    scale=20.0,
    regulariser="sigreg",
    lambda_isotropy=0.5,
    lambda_reg=0.25,
    slices=32,
    knots=17,
    t_max=3.0,
    scaled_by_batch=True,
)


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


def slow_euclidean(queries, passages, *, scale):
    squared = torch.cdist(
        queries.double(), passages.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return -(squared**2) * scale / (2 * queries.shape[1])


def test_euclidean_logits_are_negative_squared_distances_over_the_temperature():
    queries, passages = gaussian(8, 24), gaussian(20, 24, seed=1)
    logits = euclidean_logits(queries, passages, scale=20.0)
    assert logits.shape == (8, 20)
    expected = slow_euclidean(queries, passages, scale=20.0)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_large_common_offset_does_not_cost_digits():
    queries, passages = gaussian(8, 24) + 100, gaussian(20, 24, seed=1) + 100
    expected = slow_euclidean(queries, passages, scale=20.0)
    logits = euclidean_logits(queries, passages, scale=20.0).double()
    assert ((logits - expected) / expected).abs().max() < 1e-3


def test_a_passage_equal_to_its_query_has_logit_0_and_none_is_above():
    rows = gaussian(16, 24)
    logits = euclidean_logits(rows, rows, scale=20.0)
    assert logits.max() <= 0
    torch.testing.assert_close(logits.diagonal(), torch.zeros(16), rtol=0, atol=1e-4)


def test_the_gradient_of_the_distance_sees_through_the_centring():
    queries, passages = gaussian(5, 6), gaussian(9, 6, seed=1)
    weights = gaussian(5, 9, seed=2)
    grads = []
    for function, dtype in ((euclidean_logits, torch.float32), (slow_euclidean, torch.float64)):
        leaves = [rows.to(dtype).clone().requires_grad_() for rows in (queries, passages)]
        (function(*leaves, scale=7.0) * weights).sum().backward()
        grads.append([leaf.grad.double() for leaf in leaves])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-5)


def test_on_the_sphere_of_radius_sqrt_d_distances_rank_with_the_softmax_of_cosines():
    rows = [math.sqrt(24) * nn.functional.normalize(gaussian(8, 24, seed=s), dim=1) for s in (0, 1)]
    by_distance = euclidean_logits(*rows, scale=20.0)
    by_cosine = cosine_logits(*rows, scale=20.0)
    torch.testing.assert_close(by_distance, by_cosine - 20.0, rtol=1e-4, atol=1e-4)


def test_cosine_logits_are_blind_to_length_and_bounded_by_the_scale():
    queries, passages = gaussian(5, 6), gaussian(9, 6, seed=1)
    logits = cosine_logits(queries, passages, scale=20.0)
    stretched = cosine_logits(7 * queries, 0.1 * passages, scale=20.0)
    torch.testing.assert_close(logits, stretched)
    expected = 20 * torch.cosine_similarity(queries[:, None], passages[None], dim=2)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(("b", "m"), [(4, 4), (3, 12)])
def test_uninformative_logits_cost_the_logarithm_of_the_number_of_passages(b, m):
    assert info_nce(torch.full((b, m), -3.0)).item() == pytest.approx(math.log(m), rel=1e-6)


def test_info_nce_is_the_mean_surprise_at_the_own_passage():
    logits = gaussian(3, 7)
    surprises = [
        -math.log(math.exp(row[i]) / sum(math.exp(value) for value in row))
        for i, row in enumerate(logits.tolist())
    ]
    assert info_nce(logits).item() == pytest.approx(np.mean(surprises), rel=1e-5)


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


def test_orthonormal_rows_are_spread_out_perfectly_and_equal_rows_not_at_all():
    assert spread_out(3 * torch.eye(6)).item() == pytest.approx(0, abs=1e-7)
    assert spread_out(torch.tensor([[1.0, 2.0]]).repeat(5, 1)).item() == pytest.approx(1, rel=1e-6)


def test_spread_out_is_the_mean_squared_cosine_of_different_rows():
    rows = gaussian(7, 4)
    pairs = [
        torch.cosine_similarity(rows[i], rows[j], dim=0).item() ** 2
        for i in range(7)
        for j in range(7)
        if i != j
    ]
    assert spread_out(rows).item() == pytest.approx(np.mean(pairs), rel=1e-5)


def test_unit_deviation_is_the_squared_gap_of_the_deviation_to_1():
    assert unit_deviation(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).item() == 0
    assert unit_deviation(torch.full((4, 3), 8.0)).item() == 1
    assert unit_deviation(torch.tensor([[3.0, -3.0]])).item() == pytest.approx(4)
    assert unit_deviation(torch.tensor([[0.0, 1.0]])).item() == pytest.approx(0.25)


def terms_of(queries, passages, **changes):
    return objective_terms(queries, passages, settings=replace(SETTINGS, **changes), slice_seed=3)


def test_only_terms_with_a_weight_carry_a_gradient():
    queries, passages = gaussian(6, 8).requires_grad_(), gaussian(12, 8, seed=1).requires_grad_()
    bare = terms_of(queries, passages, lambda_isotropy=0.0, lambda_reg=0.0)
    full = terms_of(queries, passages)
    assert [t.requires_grad for t in vars(bare).values()] == [True, False, False]
    assert [t.requires_grad for t in vars(full).values()] == [True, True, True]
    for name, value in vars(bare).items():
        assert value.item() == getattr(full, name).item()


def test_under_no_grad_no_term_carries_a_gradient():
    queries = gaussian(6, 8).requires_grad_()
    with torch.no_grad():
        terms = terms_of(queries, gaussian(6, 8, seed=1))
    assert not any(term.requires_grad for term in vars(terms).values())


@pytest.mark.parametrize("regulariser", ["sigreg", "spread_out"])
@pytest.mark.parametrize("contrastive", ["euclidean", "cosine"])
def test_mined_negatives_count_in_the_contrastive_term_alone(contrastive, regulariser):
    queries, positives = gaussian(6, 8), gaussian(6, 8, seed=1)
    kinds = {"contrastive": contrastive, "regulariser": regulariser}
    near, far = (
        terms_of(queries, torch.cat([positives, negatives]), **kinds)
        for negatives in (queries.clone(), 9 * gaussian(6, 8, seed=2))
    )
    assert near.isotropy.item() == far.isotropy.item()
    assert near.variance.item() == far.variance.item()
    assert near.contrastive.item() != pytest.approx(far.contrastive.item(), rel=1e-3)


def test_the_isotropy_term_is_the_mean_over_queries_and_positives():
    queries, passages = gaussian(6, 8), 3 * gaussian(6, 8, seed=1)
    directions = unit_directions(32, 8, seed=3)
    expected = (slow_sigreg(queries, directions) + slow_sigreg(passages, directions)) / 2
    assert terms_of(queries, passages).isotropy.item() == pytest.approx(expected, rel=1e-5)
    expected = (spread_out(queries) + spread_out(passages)).item() / 2
    spread = terms_of(queries, passages, regulariser="spread_out")
    assert spread.isotropy.item() == pytest.approx(expected, rel=1e-5)


def test_under_cosines_sigreg_looks_at_directions_and_not_at_lengths():
    queries, passages = gaussian(6, 8), gaussian(6, 8, seed=1)
    value = terms_of(queries, passages, contrastive="cosine").isotropy.item()
    stretched = terms_of(50 * queries, 0.01 * passages, contrastive="cosine").isotropy.item()
    assert stretched == pytest.approx(value, rel=1e-5)
    directions = unit_directions(32, 8, seed=3)
    on_sphere = [8**0.5 * rows / rows.norm(dim=1, keepdim=True) for rows in (queries, passages)]
    expected = np.mean([slow_sigreg(side, directions) for side in on_sphere])
    assert value == pytest.approx(expected, rel=1e-5)


class Echo(nn.Module):
    """Embeds a table of numbers as itself, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, features):
        return {"sentence_embedding": self.weight * features["rows"]}


def batch():
    return [{"rows": gaussian(6, 8, seed=seed)} for seed in range(3)]


def loss_with(*, seed=5, **changes):
    return RetrievalLoss(Echo(), replace(SETTINGS, **changes), seed=seed)


def test_the_loss_returns_the_terms_times_their_weights():
    loss = loss_with()
    weighted, raw = loss(batch()), loss.raw
    assert list(weighted) == ["contrastive", "isotropy", "variance"]
    assert weighted["contrastive"].item() == raw["contrastive"].item()
    assert weighted["isotropy"].item() == pytest.approx(0.5 * raw["isotropy"].item(), rel=1e-6)
    assert weighted["variance"].item() == pytest.approx(0.25 * raw["variance"].item(), rel=1e-6)
    assert not any(value.requires_grad for value in raw.values())
    queries, positives, negatives = (column["rows"] for column in batch())
    expected = objective_terms(
        queries,
        torch.cat([positives, negatives]),
        settings=SETTINGS,
        slice_seed=loss.slice_seed(),
    )
    assert {name: value.item() for name, value in raw.items()} == {
        name: value.item() for name, value in vars(expected).items()
    }


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"lambda_isotropy": 0.0}, ["contrastive", "variance"]),
        ({"lambda_reg": 0.0}, ["contrastive", "isotropy"]),
        ({"lambda_isotropy": 0.0, "lambda_reg": 0.0}, ["contrastive"]),
    ],
)
def test_a_term_of_weight_0_is_no_part_of_the_sum_and_is_still_logged(changes, kept):
    loss = loss_with(**changes)
    assert list(loss(batch())) == kept
    assert list(loss.raw) == ["contrastive", "isotropy", "variance"]


def test_the_directions_change_with_the_step_and_with_the_seed():
    def isotropy(*, seed, step):
        loss = loss_with(seed=seed)
        loss.global_step = step
        loss(batch())
        return loss.raw["isotropy"].item()

    assert isotropy(seed=5, step=2) == isotropy(seed=5, step=2)
    assert len({isotropy(seed=s, step=t) for s in (5, 6) for t in (0, 1)}) == 4


def test_all_terms_with_a_weight_reach_the_weights_of_the_model():
    loss = loss_with()
    for name in ("contrastive", "isotropy", "variance"):
        loss.zero_grad()
        loss(batch())[name].backward()
        assert loss.model.weight.grad.abs() > 0
