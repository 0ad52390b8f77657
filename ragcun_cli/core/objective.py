"""The training objective: its terms on one batch, their weights, and the module that trains it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sentence_transformers.base.losses import CachedLossMixin
from sentence_transformers.base.losses.gradcache import has_static_embedding_input
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn
from torch.nn.functional import normalize

from ragcun_cli.core import losses
from ragcun_cli.core.ranks import gather_rows
from ragcun_cli.core.sigreg import sigreg, unit_directions

Contrastive = Literal["euclidean", "cosine", "dot"]
Regulariser = Literal["sigreg", "spread_out", "vicreg"]

_LOGITS = {
    "euclidean": losses.euclidean_logits,
    "cosine": losses.cosine_logits,
    "dot": losses.dot_logits,
}
_KEPT_ROWS = 2048


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
    def grows_with_batch(self) -> bool:
        """Whether the isotropy term of the same embeddings is larger in a larger batch."""
        return self.regulariser == "sigreg" and self.scaled_by_batch

    @property
    def weights(self) -> dict[str, float]:
        """What each term is multiplied with, by its name."""
        convex = self.combination == "convex"
        return {
            "contrastive": 1 - self.lambda_isotropy if convex else 1.0,
            "isotropy": self.lambda_isotropy,
            "variance": self.lambda_reg,
        }


Terms = dict[str, Tensor]
"""`contrastive`, `isotropy` and `variance` of one batch, before their weights."""


@dataclass(frozen=True)
class Batch:
    """Embeddings of one batch, those of all ranks."""

    queries: Tensor
    """``(b, d)``."""
    passages: Tensor
    """``(b * (1 + negatives), d)``; row i < b is the positive of query i."""
    passage_ids: Tensor | None = None
    """``(b * (1 + negatives),)``, equal where texts are."""

    @property
    def positives(self) -> Tensor:
        """``(b, d)``."""
        return self.passages[: len(self.queries)]


def objective_terms(
    batch: Batch, *, settings: ObjectiveSettings, slice_seed: int
) -> tuple[Terms, Tensor]:
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
) -> tuple[Terms, Tensor]:
    whole = _gathered(batch)
    logits = _LOGITS[settings.contrastive](whole.queries, whole.passages, scale=settings.scale)
    excluded = None
    if whole.passage_ids is not None:
        excluded = losses.copies_of_positives(whole.passage_ids, queries=len(whole.queries))
    contrast = losses.symmetric_info_nce if settings.symmetric else losses.info_nce
    terms: dict[str, Callable[[], Tensor]] = {
        "contrastive": lambda: contrast(logits, excluded),
        "isotropy": lambda: _isotropy(batch, whole, settings, slice_seed),
        "variance": lambda: losses.unit_deviation(torch.cat([whole.queries, whole.positives])),
    }
    values = {}
    for name, term in terms.items():
        with torch.set_grad_enabled(torch.is_grad_enabled() and settings.weights[name] > 0):
            values[name] = term()
    return values, losses.own_passage_first(logits.detach(), excluded)


def _gathered(batch: Batch) -> Batch:
    """The batch of all ranks; passages stay column by column, positives first."""
    rows = len(batch.queries)
    passages = [gather_rows(column) for column in batch.passages.split(rows)]
    ids = batch.passage_ids
    if ids is not None:
        ids = torch.cat([gather_rows(column) for column in ids.split(rows)])
    return Batch(gather_rows(batch.queries), torch.cat(passages), ids)


def _isotropy(batch: Batch, whole: Batch, settings: ObjectiveSettings, slice_seed: int) -> Tensor:
    """The mean over both sides, as the paper averages over views, or of both as one sample."""
    if settings.regulariser != "sigreg":
        term = losses.spread_out if settings.regulariser == "spread_out" else losses.moment_gap
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


def weighted(terms: Terms, settings: ObjectiveSettings) -> Terms:
    """The terms that have a weight, times it; the loss is their sum."""
    return {
        name: settings.weights[name] * value
        for name, value in terms.items()
        if settings.weights[name] > 0
    }


def gradient_norms(batch: Batch, *, settings: ObjectiveSettings, slice_seed: int) -> Terms:
    """Frobenius norm of each weighted term's gradient with respect to this rank's embeddings.

    Queries and passages together. Costs the terms once more, and nothing of the encoder.
    """
    queries = batch.queries.detach().requires_grad_()
    passages = batch.passages.detach().requires_grad_()
    norms = {}
    with torch.enable_grad():
        leaves = Batch(queries, passages, batch.passage_ids)
        terms, _ = objective_terms(leaves, settings=settings, slice_seed=slice_seed)
        for name, value in weighted(terms, settings).items():
            grads = torch.autograd.grad(
                value, [queries, passages], retain_graph=True, allow_unused=True
            )
            flat = [g.flatten() for g in grads if g is not None]
            norms[name] = torch.cat(flat).norm()
    return norms


class RetrievalLoss(CachedLossMixin, nn.Module):
    """Contrastive + lambda_isotropy * isotropy + lambda_reg * variance, for the Trainer.

    ``forward`` returns the weighted terms by name, which the Trainer sums and logs. A term of
    weight 0 is no part of that sum, and is still among the means that `take_means` gives.

    With ``mini_batch_size`` the batch is encoded in parts of so many rows, twice, by GradCache
    (Gao et al. 2021, arXiv:2101.06983): the terms, SIGReg too, see the whole batch all the same.

    Raises:
        ValueError: GradCache for a static-embedding model, whose batches are one flat row of
            tokens that cannot be cut.
    """

    model: Any

    def __init__(
        self,
        model: nn.Module,
        settings: ObjectiveSettings,
        *,
        seed: int,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if mini_batch_size is not None and has_static_embedding_input(model):
            raise ValueError("GradCache cannot cut the batches of a static-embedding encoder")
        self.model = model  # first, so that parameter names begin with "model."
        self.settings = settings
        self.seed = seed
        self.mini_batch_size = mini_batch_size
        self.uses_gradient_cache = mini_batch_size is not None
        self.global_step: int = 0
        self.measures_gradients = False
        self.gradients: Terms = {}
        self._restore: list[Tensor | None] = []
        self._last: Terms = {}
        self._sums: dict[str, Tensor] = {}
        self.batches = 0
        """Encoded since `take_means` was last asked."""
        self._rows: list[Tensor] = []

    def slice_seed(self) -> int:
        """Of this step's directions: a function of the run's seed and the step alone."""
        return (self.seed * 1_000_003 + self.global_step) % 2**63

    def forward(
        self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None
    ) -> Terms:
        """Encode the columns query, positive, negatives, and return the weighted terms.

        Args:
            sentence_features: a dictionary of ``(b, ...)`` tensors for each column.
            labels: ``(b, 1 + negatives)`` numbers of the passages, equal where texts are.
        """
        if not self.uses_gradient_cache:
            columns = embed_columns(self.model, sentence_features)
            return weighted(self._terms(columns, labels), self.settings)
        features, self._restore = _sorted_by_length(list(sentence_features))
        total: Tensor = CachedLossMixin.forward_cached(self, features, labels)
        parts = {name: value.detach() for name, value in self._last.items()}
        # Only the total carries GradCache's hook; the other terms are in it.
        parts["contrastive"] = total - sum(v for k, v in parts.items() if k != "contrastive")
        return parts

    def calculate_loss(
        self,
        reps: list[list[Tensor]],
        labels: Tensor | None = None,
        *,
        with_backward: bool = False,
    ) -> Tensor:
        """GradCache's second step: the loss of the whole batch, and its gradient up to here."""
        columns = [
            torch.cat(parts)[order] if order is not None else torch.cat(parts)
            for parts, order in zip(reps, self._restore, strict=True)
        ]
        self._last = weighted(self._terms(columns, labels), self.settings)
        total: Tensor = torch.stack(list(self._last.values())).sum()
        if with_backward:
            total.backward()
        return total.detach()

    def _terms(self, columns: list[Tensor], labels: Tensor | None) -> Terms:
        ids = None if labels is None else labels.T.flatten()  # column by column, as the passages
        batch = Batch(columns[0], torch.cat(columns[1:]), ids)
        arguments: Any = {"settings": self.settings, "slice_seed": self.slice_seed()}
        terms, accuracy = objective_terms(batch, **arguments)
        if self.measures_gradients:
            self.gradients = gradient_norms(batch, **arguments)
        self._remember({**terms, "accuracy": accuracy}, gather_rows(batch.positives.detach()))
        return terms

    def _remember(self, values: Terms, positives: Tensor) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self.batches += 1
        self._rows.append(positives.float())
        while sum(map(len, self._rows[1:])) >= _KEPT_ROWS:
            self._rows.pop(0)

    def seen(self) -> tuple[Terms, int, list[Tensor]]:
        """What there is to log so far, for `forget_since`."""
        return dict(self._sums), self.batches, list(self._rows)

    def forget_since(self, seen: tuple[Terms, int, list[Tensor]]) -> None:
        """Log nothing of what was encoded since."""
        self._sums, self.batches, self._rows = seen

    def take_means(self) -> dict[str, float]:
        """Means of all terms, unweighted, and of the accuracy, since this was last asked."""
        means = {name: float(total) / self.batches for name, total in self._sums.items()}
        self._sums, self.batches = {}, 0
        return means

    def take_rows(self) -> Tensor:
        """``(n, d)`` embeddings of positives of the last batches since this was last asked."""
        rows, self._rows = torch.cat(self._rows)[-_KEPT_ROWS:], []
        return rows


def _sorted_by_length(
    columns: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[Tensor | None]]:
    """Each column's rows longest first, so that parts of a batch hold little padding.

    And the order that brings the rows back, None for a column without an attention mask.
    """
    moved: list[dict[str, Any]] = []
    restore: list[Tensor | None] = []
    for features in columns:
        mask = features.get("attention_mask")
        if mask is None:
            moved.append(features)
            restore.append(None)
            continue
        order = mask.sum(1).argsort(descending=True, stable=True)
        moved.append(
            {
                key: value[order]
                if isinstance(value, Tensor) and value.dim() and len(value) == len(mask)
                else value
                for key, value in features.items()
            }
        )
        restore.append(order.argsort())
    return moved, restore
