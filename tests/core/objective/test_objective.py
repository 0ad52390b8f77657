from dataclasses import replace

import numpy as np
import objectives
import pytest
import torch
from torch import nn

from ragcun_cli.core.losses import moment_gap, spread_out
from ragcun_cli.core.objective.retrieval_loss import RetrievalLoss
from ragcun_cli.core.objective.sigreg import unit_directions
from ragcun_cli.core.objective.terms import Batch, gradient_norms, objective_terms

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives

SETTINGS = replace(objectives.SETTINGS, lambda_isotropy=0.5, lambda_reg=0.25, slices=32)


def gaussian(*shape, seed=0, **kwargs):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kwargs)


def direct_sigreg(rows, directions):
    """The definition, on the library's grid, in float64 with complex numbers."""
    times = np.linspace(0, 3, 17)
    projected = rows.detach().double().numpy() @ directions.double().numpy()
    seen = np.exp(1j * times[:, None, None] * projected).mean(1)
    window = np.exp(-(times**2) / 2)[:, None]
    return len(rows) * 2 * np.trapezoid(abs(seen - window) ** 2 * window, times, axis=0).mean()


def terms_of(queries, passages, excluded=None, **changes):
    settings = replace(SETTINGS, **changes)
    return objective_terms(Batch(queries, passages, excluded), settings=settings, slice_seed=3)[0]


def test_only_terms_with_a_weight_carry_a_gradient():
    queries, passages = gaussian(6, 8).requires_grad_(), gaussian(12, 8, seed=1).requires_grad_()
    bare = terms_of(queries, passages, lambda_isotropy=0.0, lambda_reg=0.0)
    full = terms_of(queries, passages)
    assert [t.requires_grad for t in bare.values()] == [True, False, False]
    assert [t.requires_grad for t in full.values()] == [True, True, True]
    for name, value in bare.items():
        assert value.item() == full[name].item()


def test_under_no_grad_no_term_carries_a_gradient():
    queries = gaussian(6, 8).requires_grad_()
    with torch.no_grad():
        terms = terms_of(queries, gaussian(6, 8, seed=1))
    assert not any(term.requires_grad for term in terms.values())


@pytest.mark.parametrize("regulariser", ["sigreg", "spread_out", "vicreg"])
@pytest.mark.parametrize("contrastive", ["euclidean", "cosine", "dot"])
def test_mined_negatives_count_in_the_contrastive_term_alone(contrastive, regulariser):
    queries, positives = gaussian(6, 8), gaussian(6, 8, seed=1)
    kinds = {"contrastive": contrastive, "regulariser": regulariser}
    near, far = (
        terms_of(queries, torch.cat([positives, negatives]), **kinds)
        for negatives in (queries.clone(), 9 * gaussian(6, 8, seed=2))
    )
    assert near["isotropy"].item() == far["isotropy"].item()
    assert near["variance"].item() == far["variance"].item()
    assert near["contrastive"].item() != pytest.approx(far["contrastive"].item(), rel=1e-3)


def test_the_isotropy_term_is_the_mean_over_queries_and_positives():
    queries, passages = gaussian(6, 8), 3 * gaussian(6, 8, seed=1)
    directions = unit_directions(32, 8, seed=3)
    expected = (direct_sigreg(queries, directions) + direct_sigreg(passages, directions)) / 2
    assert terms_of(queries, passages)["isotropy"].item() == pytest.approx(expected, rel=1e-5)
    for regulariser, function in (("spread_out", spread_out), ("vicreg", moment_gap)):
        expected = (function(queries) + function(passages)).item() / 2
        value = terms_of(queries, passages, regulariser=regulariser)["isotropy"].item()
        assert value == pytest.approx(expected, rel=1e-5)


def test_pooled_both_sides_are_one_sample():
    queries, passages = gaussian(6, 8), 3 * gaussian(12, 8, seed=1)
    both = torch.cat([queries, passages[:6]])
    expected = direct_sigreg(both, unit_directions(32, 8, seed=3))
    value = terms_of(queries, passages, pooled=True)["isotropy"].item()
    assert value == pytest.approx(expected, rel=1e-5)


def test_under_cosines_sigreg_looks_at_directions_and_not_at_lengths():
    queries, passages = gaussian(6, 8), gaussian(6, 8, seed=1)
    value = terms_of(queries, passages, contrastive="cosine")["isotropy"].item()
    stretched = terms_of(50 * queries, 0.01 * passages, contrastive="cosine")["isotropy"].item()
    assert stretched == pytest.approx(value, rel=1e-5)
    directions = unit_directions(32, 8, seed=3)
    on_sphere = [8**0.5 * rows / rows.norm(dim=1, keepdim=True) for rows in (queries, passages)]
    expected = np.mean([direct_sigreg(side, directions) for side in on_sphere])
    assert value == pytest.approx(expected, rel=1e-5)


def test_an_excluded_passage_is_not_the_negative_of_its_query():
    queries, passages = gaussian(3, 8), gaussian(6, 8, seed=1)
    excluded = torch.zeros(3, 6, dtype=torch.bool)
    excluded[0, 4] = True  # the second query's negative is relevant to the first
    leaf = passages.clone().requires_grad_()
    logits = terms_of(queries, leaf, excluded)["contrastive"]
    logits.backward()
    bare = terms_of(queries, passages)["contrastive"]
    assert logits.item() < bare.item()
    moved = passages.clone()
    moved[4] = 1e3  # far from all: excluded for the first query, harmless to the others
    masked = terms_of(queries, moved, excluded)["contrastive"]
    dropped = terms_of(queries, moved)["contrastive"]
    assert masked.item() == pytest.approx(dropped.item(), rel=1e-5)


def test_autocast_reaches_no_term():
    queries, passages = gaussian(6, 8), gaussian(12, 8, seed=1)
    expected = terms_of(queries, passages)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = terms_of(queries, passages)
    for name, value in inside.items():
        assert value.dtype == torch.float32
        assert value.item() == expected[name].item()


@pytest.mark.parametrize(
    ("combination", "weights"), [("sum", [1.0, 0.5, 0.25]), ("convex", [0.5, 0.5, 0.25])]
)
def test_the_weights_are_the_plans_or_share_one(combination, weights):
    settings = replace(SETTINGS, combination=combination)
    assert list(settings.weights.values()) == weights


def test_gradient_norms_are_those_of_each_weighted_term_alone():
    queries, passages = gaussian(6, 8), gaussian(12, 8, seed=1)
    norms = gradient_norms(Batch(queries, passages), settings=SETTINGS, slice_seed=3)
    assert list(norms) == ["contrastive", "isotropy", "variance"]
    for name, weight in SETTINGS.weights.items():
        leaves = [queries.clone().requires_grad_(), passages.clone().requires_grad_()]
        (weight * terms_of(*leaves)[name]).backward()
        flat = torch.cat([leaf.grad.flatten() for leaf in leaves])
        assert norms[name].item() == pytest.approx(flat.norm().item(), rel=1e-5)


class Echo(nn.Module):
    """Embeds a table of numbers as itself, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def __getitem__(self, position):
        return self

    def forward(self, features):
        return {"sentence_embedding": self.weight * features["rows"]}


def batch():
    return [{"rows": gaussian(6, 8, seed=seed)} for seed in range(3)]


def loss_with(*, seed=5, mini_batch_size=None, **changes):
    settings = replace(SETTINGS, **changes)
    return RetrievalLoss(Echo(), settings, seed=seed, mini_batch_size=mini_batch_size)


def test_the_loss_returns_the_terms_times_their_weights():
    loss = loss_with()
    parts, means = loss(batch()), loss.take_means()
    assert list(parts) == ["contrastive", "isotropy", "variance"]
    assert parts["contrastive"].item() == pytest.approx(means["contrastive"], rel=1e-6)
    assert parts["isotropy"].item() == pytest.approx(0.5 * means["isotropy"], rel=1e-6)
    assert parts["variance"].item() == pytest.approx(0.25 * means["variance"], rel=1e-6)
    queries, positives, negatives = (column["rows"] for column in batch())
    expected, accuracy = objective_terms(
        Batch(queries, torch.cat([positives, negatives])),
        settings=SETTINGS,
        slice_seed=loss.slice_seed(),
    )
    assert means == {
        **{name: value.item() for name, value in expected.items()},
        "accuracy": accuracy.item(),
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
    assert list(loss.take_means()) == ["contrastive", "isotropy", "variance", "accuracy"]


def test_means_are_over_the_batches_since_they_were_last_taken():
    loss, single = loss_with(), []
    for step in range(3):
        loss.global_step = step
        loss(batch())
        single.append(loss.take_means()["isotropy"])
    for step in range(3):
        loss.global_step = step
        loss(batch())
    assert loss.take_means()["isotropy"] == pytest.approx(np.mean(single), rel=1e-6)
    assert loss.take_rows().shape == (36, 8)
    loss(batch())
    assert torch.equal(loss.take_rows(), batch()[1]["rows"])


def test_the_directions_change_with_the_step_and_with_the_seed():
    def isotropy(*, seed, step):
        loss = loss_with(seed=seed)
        loss.global_step = step
        loss(batch())
        return loss.take_means()["isotropy"]

    assert isotropy(seed=5, step=2) == isotropy(seed=5, step=2)
    assert len({isotropy(seed=s, step=t) for s in (5, 6) for t in (0, 1)}) == 4


def test_all_terms_with_a_weight_reach_the_weights_of_the_model():
    loss = loss_with()
    for name in ("contrastive", "isotropy", "variance"):
        loss.zero_grad()
        loss(batch())[name].backward()
        assert loss.model.weight.grad.abs() > 0


def test_sigreg_sees_the_whole_batch_under_gradient_caching():
    plain, cached = loss_with(), loss_with(mini_batch_size=2)
    expected, parts = plain(batch()), cached(batch())
    assert list(parts) == list(expected)
    for name, value in parts.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-5)
    sum(expected.values()).backward()
    sum(parts.values()).backward()
    grads = [loss.model.weight.grad.item() for loss in (plain, cached)]
    assert grads[1] == pytest.approx(grads[0], rel=1e-5)
    assert cached.take_means() == pytest.approx(plain.take_means(), rel=1e-6)
