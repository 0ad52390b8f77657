from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ragcun_cli.core.losses import moment_gap, spread_out
from ragcun_cli.core.objective import (
    Batch,
    ObjectiveSettings,
    RetrievalLoss,
    gradient_norms,
    objective_terms,
)
from ragcun_cli.core.sigreg import sigreg, unit_directions

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives

SETTINGS = ObjectiveSettings(
    contrastive="euclidean",
    scale=20.0,
    symmetric=False,
    combination="sum",
    regulariser="sigreg",
    lambda_isotropy=0.5,
    lambda_reg=0.25,
    slices=32,
    knots=17,
    t_max=3.0,
    scaled_by_batch=True,
    pooled=False,
)


def gaussian(*shape, seed=0, **kwargs):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kwargs)


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
