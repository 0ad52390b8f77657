"""The training objective: its terms on one batch, their weights and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ragcun_cli.core import losses
from ragcun_cli.core.collective import gather_rows, mean_over_ranks
from ragcun_cli.core.objective.sigreg import sigreg, unit_directions

Contrastive = Literal["euclidean", "cosine", "dot"]
Regulariser = Literal["sigreg", "spread_out", "vicreg"]

_LOGITS = {
    "euclidean": losses.euclidean_logits,
    "cosine": losses.cosine_logits,
    "dot": losses.dot_logits,
}

_REGULARISERS = {"spread_out": losses.spread_out, "vicreg": losses.moment_gap}
"""Beside SIGReg, which sees the rows of each rank by themselves."""


@dataclass(frozen=True)
class ObjectiveSettings:
    """The objective of one experiment."""

    contrastive: Contrastive
    scale: float
    symmetric: bool
    combination: Literal["sum", "convex"]
    regulariser: Regulariser
    lambda_isotropy: float
    lambda_reg: float
    slices: int
    knots: int
    t_max: float
    scaled_by_batch: bool
    pooled: bool

    @property
    def weights(self) -> dict[str, float]:
        """What each term is multiplied with, by its name."""
        convex = self.combination == "convex"
        return {
            "contrastive": 1 - self.lambda_isotropy if convex else 1.0,
            "isotropy": self.lambda_isotropy,
            "variance": self.lambda_reg,
        }


TermValues = dict[str, Tensor]
"""`contrastive`, `isotropy` and `variance` of one batch, before their weights."""


@dataclass(frozen=True)
class Batch:
    """Embeddings of one batch, those of all ranks."""

    queries: Tensor
    """``(b, d)``."""
    passages: Tensor
    """``(b * (1 + negatives), d)``; row i < b is the positive of query i."""
    excluded: Tensor | None = None
    """``(b, b * (1 + negatives))`` of all ranks, True where a passage is no negative of a query."""

    @property
    def positives(self) -> Tensor:
        """``(b, d)``."""
        return self.passages[: len(self.queries)]


def objective_terms(
    batch: Batch, *, settings: ObjectiveSettings, slice_seed: int
) -> tuple[TermValues, Tensor]:
    """All terms of one batch, those with weight 0 without a gradient, and its accuracy.

    In fp32, under autocast too. Mined negatives count in the contrastive term alone: they follow
    the queries, and so are no independent sample of passages.

    Args:
        batch: this rank's part of it; the terms are those of all ranks together.
        settings: weights and shapes of the terms.
        slice_seed: of SIGReg's directions.
    """
    with torch.autocast(batch.queries.device.type, enabled=False):
        return _terms_and_accuracy(batch, settings, slice_seed)


def _terms_and_accuracy(
    batch: Batch, settings: ObjectiveSettings, slice_seed: int
) -> tuple[TermValues, Tensor]:
    whole = _gathered(batch)
    logits = _LOGITS[settings.contrastive](whole.queries, whole.passages, scale=settings.scale)
    contrast = losses.symmetric_info_nce if settings.symmetric else losses.info_nce
    terms: dict[str, Callable[[], Tensor]] = {
        "contrastive": lambda: contrast(logits, whole.excluded),
        "isotropy": lambda: _isotropy(batch, whole, settings, slice_seed),
        "variance": lambda: losses.unit_deviation(torch.cat([whole.queries, whole.positives])),
    }
    values = {}
    for name, term in terms.items():
        with torch.set_grad_enabled(torch.is_grad_enabled() and settings.weights[name] > 0):
            values[name] = term()
    return values, losses.own_passage_first(logits.detach(), whole.excluded)


def _gathered(batch: Batch) -> Batch:
    """The batch of all ranks; passages stay column by column, positives first."""
    rows = len(batch.queries)
    passages = [gather_rows(column) for column in batch.passages.split(rows)]
    return Batch(gather_rows(batch.queries), torch.cat(passages), batch.excluded)


def _isotropy(batch: Batch, whole: Batch, settings: ObjectiveSettings, slice_seed: int) -> Tensor:
    """The mean over both sides, as the paper averages over views, or of both as one sample."""
    if (term := _REGULARISERS.get(settings.regulariser)) is not None:
        sides = [whole.queries, whole.positives]
        return torch.stack([term(on_sphere(side, settings)) for side in sides]).mean()
    sides = [batch.queries, batch.positives]  # this rank's: the statistic averages over ranks
    if settings.pooled:
        sides = [torch.cat(sides)]
    directions = unit_directions(settings.slices, batch.queries.shape[1], seed=slice_seed)
    values = [
        sigreg(
            on_sphere(side, settings),
            directions,
            knots=settings.knots,
            t_max=settings.t_max,
            scaled_by_batch=settings.scaled_by_batch,
        )
        for side in sides
    ]
    return torch.stack(values).mean()


def on_sphere(rows: Tensor, settings: ObjectiveSettings) -> Tensor:
    """The rows; for cosines, where length means nothing, on the radius sqrt(d) that N(0, I_d) has.

    On radius 1 they would look like a point to a test against N(0, I).
    """
    if settings.contrastive != "cosine":
        return rows
    return math.sqrt(rows.shape[1]) * normalize(rows.float(), dim=1)


def weighted(terms: TermValues, settings: ObjectiveSettings) -> TermValues:
    """The terms that have a weight, times it; the loss is their sum."""
    return {
        name: settings.weights[name] * value
        for name, value in terms.items()
        if settings.weights[name] > 0
    }


def gradient_norms(
    batch: Batch, *, settings: ObjectiveSettings, slice_seed: int, head: nn.Module | None = None
) -> TermValues:
    """Frobenius norm of each weighted term's gradient with respect to this rank's embeddings.

    Queries and passages together. Or with respect to the parameters of a head, whose inputs the
    batch then has, averaged over ranks as in training; parameters of a base that learns are none of
    them. Costs the terms and the head once more, and nothing of the base.
    """
    rows = [batch.queries.detach().requires_grad_(), batch.passages.detach().requires_grad_()]
    head = head or nn.Sequential()
    leaves = [p for p in head.parameters() if p.requires_grad] or rows
    norms = {}
    with torch.enable_grad():
        made = [head({"sentence_embedding": side})["sentence_embedding"] for side in rows]
        whole = Batch(made[0], made[1], batch.excluded)
        terms, _ = objective_terms(whole, settings=settings, slice_seed=slice_seed)
        for name, value in weighted(terms, settings).items():
            grads = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
            flat = torch.cat([g.flatten() for g in grads if g is not None])
            norms[name] = (flat if leaves is rows else mean_over_ranks(flat)).norm()
    return norms
