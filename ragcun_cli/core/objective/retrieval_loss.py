"""The module that trains the objective, batch by batch or in the parts of GradCache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers.base.losses import CachedLossMixin
from sentence_transformers.base.losses.gradcache import has_static_embedding_input
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn

from ragcun_cli.core.collective import gather_rows
from ragcun_cli.core.errors import SettingsError
from ragcun_cli.core.losses import judged_elsewhere
from ragcun_cli.core.objective.terms import (
    Batch,
    ObjectiveSettings,
    TermValues,
    gradient_norms,
    objective_terms,
    weighted,
)

MASKED = "masked_per_query"
"""Passages of the batch that are no negatives of a query, the mean over its queries."""

_KEPT_ROWS = 2048


class RetrievalLoss(CachedLossMixin, nn.Module):
    """Contrastive + lambda_isotropy * isotropy + lambda_reg * variance, for the Trainer.

    ``forward`` returns the weighted terms by name, which the Trainer sums and logs. A term of
    weight 0 is no part of that sum, and is still among the means that `take_means` gives.

    With ``mini_batch_size`` the batch is encoded in parts of so many rows, twice, by GradCache
    (Gao et al. 2021, arXiv:2101.06983): the terms, SIGReg too, see the whole batch all the same.

    Raises:
        SettingsError: GradCache for a static-embedding model, whose batches are one flat row of
            tokens that cannot be cut.
    """

    model: Any
    judged: Tensor | None
    """``(n,)`` pairs judged relevant, as `judged_elsewhere` reads them."""

    def __init__(
        self,
        model: nn.Module,
        settings: ObjectiveSettings,
        *,
        seed: int,
        mini_batch_size: int | None = None,
        judged: Tensor | None = None,
        head: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        if mini_batch_size is not None and has_static_embedding_input(model):
            raise SettingsError("GradCache cannot cut the batches of a static-embedding encoder")
        self.model = model  # first, so that parameter names begin with "model."
        self.register_buffer("judged", judged, persistent=False)
        self.settings = settings
        self.seed = seed
        self.mini_batch_size = mini_batch_size
        self.uses_gradient_cache = mini_batch_size is not None
        self.global_step: int = 0
        self.measures_gradients = False
        self.gradients: dict[str, TermValues] = {}
        """`gradient_norms` of the last batch that was measured, by the name of their shares."""
        self._head = [nn.Sequential(*head)] if head else []  # a list: it is no module of the loss
        self._head_inputs: list[Tensor] = []
        if head:
            head[0].register_forward_pre_hook(self._keep_head_input)
        self._restore: list[Tensor | None] = []
        self._last: TermValues = {}
        self._sums: dict[str, Tensor] = {}
        self.batches = 0
        """Encoded since `take_means` was last asked."""
        self._rows: list[Tensor] = []

    def slice_seed(self) -> int:
        """Of this step's directions: a function of the run's seed and the step alone."""
        return (self.seed * 1_000_003 + self.global_step) % 2**63

    def forward(
        self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None
    ) -> TermValues:
        """Encode the columns query, positive, negatives, and return the weighted terms.

        Args:
            sentence_features: a dictionary of ``(b, ...)`` tensors for each column.
            labels: ``(b, 2 + negatives)`` numbers of the query and of the passages, equal where
                texts are.
        """
        self._head_inputs, self._restore = [], []
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

    def _terms(self, columns: list[Tensor], labels: Tensor | None) -> TermValues:
        batch = Batch(columns[0], torch.cat(columns[1:]), self._excluded(labels))
        arguments: Any = {"settings": self.settings, "slice_seed": self.slice_seed()}
        terms, accuracy = objective_terms(batch, **arguments)
        if self.measures_gradients:
            self.gradients = {"gradient_share": gradient_norms(batch, **arguments)}
            for head in self._head:
                inputs = self._before_head(batch)
                norms = gradient_norms(inputs, head=head, **arguments)
                self.gradients["head_gradient_share"] = norms
        facts = {"accuracy": accuracy}
        if batch.excluded is not None:
            facts[MASKED] = batch.excluded.sum(1, dtype=torch.float32).mean()
        self._remember({**terms, **facts}, gather_rows(batch.positives.detach()))
        return terms

    def _keep_head_input(self, module: nn.Module, inputs: Any) -> None:  # noqa: ANN401
        if self.measures_gradients and not torch.is_inference_mode_enabled():  # no score's
            self._head_inputs.append(inputs[0]["sentence_embedding"].detach())

    def _before_head(self, batch: Batch) -> Batch:
        """What the head read of this batch."""
        columns = list(torch.cat(self._head_inputs).split(len(batch.queries)))
        for place, order in enumerate(self._restore):
            columns[place] = columns[place] if order is None else columns[place][order]
        return Batch(columns[0], torch.cat(columns[1:]), batch.excluded)

    def _excluded(self, labels: Tensor | None) -> Tensor | None:
        """Judged relevant to a query of any rank, and no row's own: such are no negatives."""
        if labels is None or self.judged is None:
            return None
        numbers = gather_rows(labels)
        passages = numbers[:, 1:].T.flatten()  # column by column, as the passages
        return judged_elsewhere(numbers[:, 0], passages, self.judged)

    def _remember(self, values: TermValues, positives: Tensor) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self.batches += 1
        self._rows.append(positives.float())
        while sum(map(len, self._rows[1:])) >= _KEPT_ROWS:
            self._rows.pop(0)

    def seen(self) -> tuple[TermValues, int, list[Tensor]]:
        """What there is to log so far, for `forget_since`."""
        return dict(self._sums), self.batches, list(self._rows)

    def forget_since(self, seen: tuple[TermValues, int, list[Tensor]]) -> None:
        """Log nothing of what was encoded since."""
        self._sums, self.batches, self._rows = seen

    def take_means(self) -> dict[str, float]:
        """Means of all terms, unweighted, and of facts of batches, since this was last asked."""
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
