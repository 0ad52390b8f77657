"""Training objectives: pure functions of embeddings first, one module that joins them last."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Contrastive = Literal["euclidean", "cosine"]
Regulariser = Literal["sigreg", "spread_out"]


def euclidean_logits(queries: Tensor, passages: Tensor, *, scale: float) -> Tensor:
    """-||q - d||^2 / T with T = 2 d / scale, for embeddings on the scale of N(0, I_d).

    There the squared distance of an unrelated pair is 2 d and that of a pair with cosine c is
    2 d (1 - c), so these logits are ``scale * cosine`` less a constant, as in InfoNCE on cosines.
    Computed in fp32 around the common mean: a shared offset would cancel digits.

    Args:
        queries: ``(b, d)``.
        passages: ``(m, d)``.
        scale: inverse temperature, > 0.

    Returns:
        ``(b, m)``, at most 0.
    """
    centre = passages.detach().float().mean(dim=0)
    q, p = queries.float() - centre, passages.float() - centre
    squared = (q * q).sum(1)[:, None] - 2 * q @ p.T + (p * p).sum(1)
    return squared.clamp(min=0) * (-scale / (2 * queries.shape[1]))


def cosine_logits(queries: Tensor, passages: Tensor, *, scale: float) -> Tensor:
    """``(b, m)`` cosines times ``scale``, in fp32."""
    normalize = nn.functional.normalize
    return scale * normalize(queries.float(), dim=1) @ normalize(passages.float(), dim=1).T


def info_nce(logits: Tensor) -> Tensor:
    """Cross-entropy of each query picking its own passage; ``(b, m)`` logits, m >= b.

    Query i's positive is column i. ``log(m)`` for uninformative logits (van den Oord et al. 2018,
    arXiv:1807.03748).
    """
    targets = torch.arange(len(logits), device=logits.device)
    return nn.functional.cross_entropy(logits, targets)


def unit_directions(count: int, dimensions: int, *, seed: int) -> Tensor:
    """``(dimensions, count)`` directions, uniform on the sphere, from a CPU generator of their own.

    Neither the device nor the state of torch's global generator changes them.
    """
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(dimensions, count, generator=generator), dim=0)


def sigreg(
    embeddings: Tensor,
    directions: Tensor,
    *,
    knots: int = 17,
    t_max: float = 3.0,
    scaled_by_batch: bool = True,
) -> Tensor:
    """Mean Epps-Pulley statistic of the embeddings' projections against N(0, 1).

    For each direction, ``n * integral |mean_j exp(i t x_j) - exp(-t^2/2)|^2 exp(-t^2/2) dt`` by the
    trapezoid rule on ``[0, t_max]``, doubled for the negative half (SIGReg, LeJEPA: Balestriero and
    LeCun 2025, arXiv:2511.08544, with the weight and the grid of the authors' library). In fp32.

    About 1.0525 for N(0, I) whatever n; 0.402 n when all rows are 0; blind to anisotropy much
    finer than n can show.

    Args:
        embeddings: ``(n, d)``.
        directions: ``(d, m)`` unit columns.
        knots: points on ``[0, t_max]``, odd.
        t_max: end of the integration range.
        scaled_by_batch: keep the factor n.

    Returns:
        ``()``, at least 0.
    """
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        projected = embeddings.float() @ directions.to(embeddings.device)  # (n, m)
        step = t_max / (knots - 1)
        total = projected.new_zeros(())
        for knot in range(knots):
            t = knot * step
            gaussian = math.exp(-t * t / 2)
            angle = projected * t
            error = (angle.cos().mean(0) - gaussian) ** 2 + angle.sin().mean(0) ** 2  # (m,)
            ends = 1.0 if knot in (0, knots - 1) else 2.0
            total = total + ends * step * gaussian * error.mean()
    return total * len(embeddings) if scaled_by_batch else total


def spread_out(embeddings: Tensor) -> Tensor:
    """Mean squared cosine over all pairs of different rows: the global orthogonal regulariser GOR.

    ``1 / d`` for directions uniform on the sphere, 1 for a single one (Zhang et al. 2017,
    arXiv:1708.06320, second moment). Blind to length. ``(n, d)`` with n >= 2 to ``()``.
    """
    cosines = cosine_logits(embeddings, embeddings, scale=1.0)
    n = len(embeddings)
    return (cosines.square().sum() - cosines.diagonal().square().sum()) / (n * (n - 1))


def unit_deviation(embeddings: Tensor) -> Tensor:
    """``(s - 1)^2``, s the standard deviation (ddof 0) of all entries; 0 for N(0, I)."""
    return (embeddings.float().std(correction=0) - 1) ** 2


@dataclass(frozen=True)
class ObjectiveSettings:
    """The objective of one experiment."""

    contrastive: Contrastive
    scale: float
    regulariser: Regulariser
    lambda_isotropy: float
    lambda_reg: float
    slices: int
    knots: int
    t_max: float
    scaled_by_batch: bool


@dataclass(frozen=True)
class Terms:
    """The terms of one batch, before their weights."""

    contrastive: Tensor
    isotropy: Tensor
    variance: Tensor


def objective_terms(
    queries: Tensor, passages: Tensor, *, settings: ObjectiveSettings, slice_seed: int
) -> Terms:
    """All terms of one batch, those with weight 0 without a gradient.

    Args:
        queries: ``(b, d)``.
        passages: ``(b * (1 + negatives), d)``; row i < b is the positive of query i. Mined
            negatives count in the contrastive term alone: they follow the queries, and so are no
            independent sample of passages.
        settings: weights and shapes of the terms.
        slice_seed: of SIGReg's directions.
    """
    logits_of = euclidean_logits if settings.contrastive == "euclidean" else cosine_logits
    sides = (queries, passages[: len(queries)])
    with torch.set_grad_enabled(torch.is_grad_enabled() and settings.lambda_isotropy > 0):
        isotropy = _isotropy_term(sides, settings, slice_seed)
    with torch.set_grad_enabled(torch.is_grad_enabled() and settings.lambda_reg > 0):
        variance = unit_deviation(torch.cat(sides))
    return Terms(
        contrastive=info_nce(logits_of(queries, passages, scale=settings.scale)),
        isotropy=isotropy,
        variance=variance,
    )


def _isotropy_term(
    sides: tuple[Tensor, Tensor], settings: ObjectiveSettings, slice_seed: int
) -> Tensor:
    """The mean over both sides, as the paper averages over views."""
    if settings.regulariser == "spread_out":
        return torch.stack([spread_out(side) for side in sides]).mean()
    if settings.contrastive == "cosine":
        # Unit vectors look like a point to SIGReg; on radius sqrt(d) they look like N(0, I).
        width = sides[0].shape[1]
        sides = tuple(math.sqrt(width) * nn.functional.normalize(s.float(), dim=1) for s in sides)  # type: ignore[assignment]
    directions = unit_directions(settings.slices, sides[0].shape[1], seed=slice_seed)
    values = [
        sigreg(
            side,
            directions,
            knots=settings.knots,
            t_max=settings.t_max,
            scaled_by_batch=settings.scaled_by_batch,
        )
        for side in sides
    ]
    return torch.stack(values).mean()


class RetrievalLoss(nn.Module):
    """Contrastive + lambda_isotropy * isotropy + lambda_reg * variance, for the Trainer.

    ``forward`` returns the weighted terms by name, which the Trainer sums and logs. A term of
    weight 0 is no part of that sum; ``raw`` keeps all terms of the last batch, unweighted.
    """

    def __init__(self, model: nn.Module, settings: ObjectiveSettings, *, seed: int) -> None:
        super().__init__()
        self.model = model  # first, so that parameter names begin with "model."
        self.settings = settings
        self.seed = seed
        self.global_step = 0
        self.raw: dict[str, Tensor] = {}

    def slice_seed(self) -> int:
        """Of this step's directions: a function of the run's seed and the step alone."""
        return (self.seed * 1_000_003 + self.global_step) % 2**63

    def forward(
        self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Encode the columns query, positive, negatives, and return the weighted terms."""
        columns = [self.model(features)["sentence_embedding"] for features in sentence_features]
        terms = objective_terms(
            columns[0],
            torch.cat(columns[1:]),
            settings=self.settings,
            slice_seed=self.slice_seed(),
        )
        self.raw = {name: value.detach() for name, value in vars(terms).items()}
        weighted = {"contrastive": terms.contrastive}
        if self.settings.lambda_isotropy > 0:
            weighted["isotropy"] = self.settings.lambda_isotropy * terms.isotropy
        if self.settings.lambda_reg > 0:
            weighted["variance"] = self.settings.lambda_reg * terms.variance
        return weighted
