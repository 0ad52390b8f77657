import math

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss
from torch import nn

from ragcun_cli.core.losses import (
    cosine_logits,
    dot_logits,
    euclidean_logits,
    info_nce,
    judged_elsewhere,
    moment_gap,
    own_passage_first,
    spread_out,
    symmetric_info_nce,
    unit_deviation,
)

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives


def gaussian(*shape, seed=0, **kwargs):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kwargs)


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


def test_orthonormal_rows_are_spread_out_perfectly_and_equal_rows_not_at_all():
    assert spread_out(3 * torch.eye(6)).item() == pytest.approx(0, abs=1e-7)
    # all cosines are 1: a squared mean of 1, and a second moment half above that of a circle
    assert spread_out(torch.tensor([[1.0, 2.0]]).repeat(5, 1)).item() == pytest.approx(1.5)
    # opposite rows: cosines 1, -1 and -1; the second moment is 1
    rows = torch.tensor([[2.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert spread_out(rows).item() == pytest.approx(1 / 9 + 0.5)


@pytest.mark.parametrize("bent", [True, False])
def test_spread_out_is_the_two_terms_of_its_paper(bent):
    rows = gaussian(7, 4) if bent else gaussian(7, 4) + torch.tensor([3.0, 0, 0, 0])
    cosines = [
        torch.cosine_similarity(rows[i], rows[j], dim=0).item()
        for i in range(7)
        for j in range(7)
        if i != j
    ]
    expected = np.mean(cosines) ** 2 + max(0, np.mean(np.square(cosines)) - 1 / 4)
    assert spread_out(rows).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_spread_out_has_the_value_and_gradient_of_sentence_transformers(offset):
    rows = gaussian(9, 16, dtype=torch.float64) + offset
    theirs = GlobalOrthogonalRegularizationLoss(None)
    results = []
    for function in (
        spread_out,
        lambda leaf: sum(theirs.compute_loss_from_embeddings([leaf]).values()),
    ):
        leaf = rows.float().requires_grad_()
        value = function(leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)
    assert results[0][1].norm() > 0


def test_unit_deviation_is_the_squared_gap_of_the_deviation_to_1():
    assert unit_deviation(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).item() == 0
    assert unit_deviation(torch.full((4, 3), 8.0)).item() == 1
    assert unit_deviation(torch.tensor([[3.0, -3.0]])).item() == pytest.approx(4)
    assert unit_deviation(torch.tensor([[0.0, 1.0]])).item() == pytest.approx(0.25)


def test_dot_logits_are_products_over_their_temperature():
    queries, passages = gaussian(5, 6), gaussian(9, 6, seed=1)
    expected = [[float(q @ p) * 20 / 6 for p in passages] for q in queries]
    torch.testing.assert_close(dot_logits(queries, passages, scale=20.0), torch.tensor(expected))


def test_on_the_sphere_of_radius_sqrt_d_products_are_scaled_cosines():
    rows = [math.sqrt(24) * nn.functional.normalize(gaussian(8, 24, seed=s), dim=1) for s in (0, 1)]
    torch.testing.assert_close(dot_logits(*rows, scale=20.0), cosine_logits(*rows, scale=20.0))


QUERIES = torch.tensor([16, 32, 48])
PASSAGES = torch.tensor([4, 5, 4, 4, 6, 5])
RELEVANT = {(16, 4), (32, 5), (48, 4), (48, 5), (32, 7)}
JUDGED = torch.tensor(sorted(query ^ passage for query, passage in RELEVANT))


def test_passages_judged_relevant_elsewhere_are_found_as_by_a_double_loop():
    expected = [
        [
            (query, passage) in RELEVANT and row != place
            for place, passage in enumerate(PASSAGES.tolist())
        ]
        for row, query in enumerate(QUERIES.tolist())
    ]
    assert sum(map(sum, expected)) == 2 + 1 + 4
    assert judged_elsewhere(QUERIES, PASSAGES, JUDGED).tolist() == expected
    nothing = judged_elsewhere(QUERIES + 2**40, PASSAGES, JUDGED)
    assert not nothing.any(), "beyond the last pair there is none"


def test_an_excluded_passage_is_as_if_it_were_not_there():
    logits = gaussian(3, 6)
    excluded = judged_elsewhere(QUERIES, PASSAGES, JUDGED)
    surprises = []
    for row in range(3):
        kept = [column for column in range(6) if not excluded[row, column]]
        values = logits[row, kept].double().exp()
        surprises.append(-math.log(values[kept.index(row)] / values.sum()))
    assert info_nce(logits, excluded).item() == pytest.approx(np.mean(surprises), rel=1e-5)
    leaf = logits.clone().requires_grad_()
    info_nce(leaf, excluded).backward()
    assert (leaf.grad[excluded] == 0).all()
    assert (leaf.grad[~excluded] != 0).all()


def test_the_symmetric_loss_is_the_mean_of_both_directions():
    logits = gaussian(3, 6)
    there, back = info_nce(logits), info_nce(logits[:, :3].T)
    assert symmetric_info_nce(logits).item() == pytest.approx((there + back).item() / 2, rel=1e-6)
    excluded = judged_elsewhere(QUERIES, PASSAGES, JUDGED)
    back = info_nce(logits[:, :3].T, excluded[:, :3].T)
    expected = (info_nce(logits, excluded) + back).item() / 2
    assert symmetric_info_nce(logits, excluded).item() == pytest.approx(expected, rel=1e-6)


def test_accuracy_counts_the_queries_whose_own_passage_is_first():
    logits = torch.tensor([[2.0, 1, 0], [5, 3, 4], [0, 0, 9]])
    assert own_passage_first(logits).item() == pytest.approx(2 / 3)
    excluded = torch.tensor([[False] * 3, [True, False, True], [False] * 3])
    assert own_passage_first(logits, excluded).item() == 1


def test_the_moment_gap_is_that_of_its_definition():
    rows = (1.7 * gaussian(30, 5) + 0.4).double().numpy()
    mean, covariance = rows.mean(0), np.cov(rows.T)
    off = covariance - np.diag(np.diag(covariance))
    expected = (mean**2).mean() + ((rows.std(0, ddof=1) - 1) ** 2).mean() + (off**2).sum() / 5
    assert moment_gap(torch.from_numpy(rows)).item() == pytest.approx(expected, rel=1e-5)


def test_the_moment_gap_of_a_gaussian_falls_to_0_with_its_rows():
    # E[off-diagonal^2] = (d - 1) / n, E[(s - 1)^2] = 1 / 2 n, E[m^2] = 1 / n
    value = moment_gap(gaussian(4000, 16)).item()
    assert value == pytest.approx((15 + 0.5 + 1) / 4000, rel=0.25)
    point = torch.zeros(8, 4, requires_grad=True)
    gap = moment_gap(point)
    assert gap.item() == pytest.approx(1, abs=1e-4)
    gap.backward()
    assert point.grad.isfinite().all()
