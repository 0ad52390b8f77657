"""Before the first step: what can SIGReg see of these embeddings at this batch size?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from ragcun_cli.core.isotropy.spectrum import corrected_participation_ratio
from ragcun_cli.core.objective.sigreg import expected_sigreg, null_mean, sigreg, unit_directions
from ragcun_cli.core.objective.terms import Batch, ObjectiveSettings, gradient_norms, on_sphere

VISIBLE = 2.0
"""Spreads of the null above its mean from which a statistic counts as seen."""

_NULL_DRAWS = 20
_NULL_ROWS = 256  # its mean and spread hardly depend on the batch


@dataclass(frozen=True)
class Probe:
    """What the isotropy term can tell apart; the statistics are on the scale of N(0, I) and N."""

    texts: int
    batch_size: int
    dimensions: int
    participation_ratio: float
    """Of the texts, queries and positives each around their mean, corrected for their number."""
    mean_offset: float
    """Share of the mean squared length that is the mean vector."""
    mean_square: float
    """Of all entries; 1 for N(0, I)."""
    expected: float
    """SIGReg that the first two moments of the texts foretell at this batch size, N-scaled."""
    measured: float | None
    """SIGReg of batches of the texts; None where a batch is larger than the sample."""
    null_mean: float
    """SIGReg of N(0, I)."""
    null_std: float
    """Its spread from batch to batch."""
    visible_batch: float
    """Batch at which this participation ratio alone, with mean 0 and the right scale, would stand
    `VISIBLE` spreads above the null; infinite for an even spectrum."""
    gradient_shares: dict[str, float]
    """Share of each weighted term in the gradient norms with respect to the embeddings, on one
    batch without mined negatives, of at most as many pairs as there are."""
    head_gradient_shares: dict[str, float]
    """The same with respect to the parameters of the head, without its dropout; empty without it.
    Here a term counts for more whose gradients agree across rows: those of the contrastive one
    cancel."""
    carried_over: dict[int, float]
    """lambda_isotropy with which its share on the head's parameters is the same at larger batch
    sizes, as measured there: batch size -> lambda. Empty where there is no such share."""

    @property
    def signal(self) -> float:
        """Spreads of the null by which the expected statistic exceeds it."""
        return (self.expected - self.null_mean) / self.null_std


def probe(
    queries: Tensor,
    positives: Tensor,
    *,
    settings: ObjectiveSettings,
    batch_size: int,
    seed: int,
    head: nn.Sequential | None = None,
) -> Probe:
    """What SIGReg sees of the embeddings of some training pairs.

    Args:
        queries: ``(n, d)`` with n >= 3; with a head, what it reads.
        positives: ``(n, d)``; row i belongs to query i.
        settings: the objective; its grid, slices and sides are SIGReg's.
        batch_size: rows of a training batch.
        seed: of the directions and of the null's draws.
        head: what makes embeddings of its inputs.
    """
    inputs, head = (queries, positives), head or nn.Sequential()
    with torch.no_grad():
        embeddings = [head({"sentence_embedding": x})["sentence_embedding"] for x in inputs]
    sides = [on_sphere(side, settings).cpu() for side in embeddings]
    if settings.pooled:
        sides = [torch.cat(sides)]
    width = embeddings[0].shape[1]
    directions = unit_directions(settings.slices, width, seed=seed)
    moments = [_moments(side) for side in sides]
    rows = batch_size * (2 if settings.pooled else 1)
    shapes = [covariance * (width / covariance.trace()) for _, covariance in moments]
    zero = torch.zeros(width)
    gain = fmean(
        _expected(zero, shape, directions, 1, settings)
        - _expected(zero, shape, directions, 0, settings)
        for shape in shapes
    )
    null_std = _null_std(width, sides=len(sides), directions=directions, settings=settings)
    floor = null_mean(knots=settings.knots, t_max=settings.t_max)
    # The statistic grows by the gain for each row; it begins a little under the null's mean.
    start = fmean(_expected(zero, shape, directions, 0, settings) for shape in shapes)
    visible = (VISIBLE * null_std + floor - start) / gain if gain > 1e-12 else math.inf
    sizes = [batch_size * 2**power for power in range(8)] if head else []
    sizes = sizes[:1] + [size for size in sizes[1:] if size <= len(queries)]
    on_head = {size: _shares(inputs, size, seed, settings, head) for size in sizes}
    return Probe(
        texts=2 * len(queries),
        batch_size=batch_size,
        dimensions=width,
        participation_ratio=fmean(_participation_ratio(c) for _, c in moments),
        mean_offset=fmean(
            float(mean @ mean / side.double().square().sum(1).mean())
            for (mean, _), side in zip(moments, sides, strict=True)
        ),
        mean_square=fmean(float(side.double().square().mean()) for side in sides),
        expected=fmean(_expected(*moment, directions, rows, settings) for moment in moments),
        measured=_measured(sides, directions, rows, settings),
        null_mean=floor,
        null_std=null_std,
        visible_batch=visible / (2 if settings.pooled else 1),
        gradient_shares=_shares(embeddings, batch_size, seed, settings, nn.Sequential()),
        head_gradient_shares=on_head.get(batch_size, {}),
        carried_over=_carried_over(on_head, settings),
    )


def _shares(
    inputs: Sequence[Tensor], size: int, seed: int, settings: ObjectiveSettings, head: nn.Sequential
) -> dict[str, float]:
    batch = Batch(*(side[:size] for side in inputs))
    norms = gradient_norms(batch, settings=settings, slice_seed=seed, head=head)
    return {name: float(norm / sum(norms.values())) for name, norm in norms.items()}


def _carried_over(
    shares: Mapping[int, Mapping[str, float]], settings: ObjectiveSettings
) -> dict[int, float]:
    """The weight for each batch size but the first that gives the isotropy term its share there.

    By the odds of its share, which grow as its weight; in the convex form, as the ratio of both
    weights, but for a variance term.
    """
    found = {size: one.get("isotropy", 0.0) for size, one in shares.items()}
    odds = {size: share / (1 - share) for size, share in found.items() if 0 < share < 1}
    first = min(found, default=0)
    own = settings.weights["isotropy"] / settings.weights["contrastive"] * odds.get(first, 0.0)
    wanted = {size: own / one for size, one in odds.items() if own and size > first}
    convex = settings.combination == "convex"
    return {size: ratio / (1 + ratio) if convex else ratio for size, ratio in wanted.items()}


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` and covariance ``(d, d)`` in fp64, without what the number of rows adds.

    A sample's mean is longer, and its spectrum less even, than those it was drawn from: the mean is
    shortened by its standard error, and the covariance drawn towards a multiple of I until it has
    the corrected participation ratio.
    """
    rows = rows.double()
    mean, covariance = rows.mean(0), torch.cov(rows.T)
    noise = float(covariance.trace()) / len(rows)
    length = float(mean @ mean)
    mean = mean * math.sqrt(max(0.0, 1 - noise / length) if length else 0.0)
    width, ratio = len(covariance), _participation_ratio(covariance)
    corrected = corrected_participation_ratio(ratio, texts=len(rows))
    kept = math.sqrt(max(0.0, width / corrected - 1) / max(width / ratio - 1, 1e-12))
    even = torch.eye(width, dtype=torch.float64) * covariance.trace() / width
    return mean, kept * covariance + (1 - kept) * even


def _participation_ratio(covariance: Tensor) -> float:
    return float(covariance.trace() ** 2 / covariance.square().sum())


def _expected(
    mean: Tensor, covariance: Tensor, directions: Tensor, rows: int, settings: ObjectiveSettings
) -> float:
    return expected_sigreg(
        mean, covariance, directions, rows=rows, knots=settings.knots, t_max=settings.t_max
    )


def _measured(
    sides: Sequence[Tensor], directions: Tensor, rows: int, settings: ObjectiveSettings
) -> float | None:
    if rows > len(sides[0]):
        return None
    batches = [batch for side in sides for batch in side.split(rows) if len(batch) == rows]
    return fmean(_statistic(batch, directions, settings) for batch in batches)


def _null_std(width: int, *, sides: int, directions: Tensor, settings: ObjectiveSettings) -> float:
    generator = torch.Generator().manual_seed(0)
    draws = [
        fmean(
            _statistic(torch.randn(_NULL_ROWS, width, generator=generator), directions, settings)
            for _ in range(sides)
        )
        for _ in range(_NULL_DRAWS)
    ]
    return float(torch.tensor(draws).std())


def _statistic(rows: Tensor, directions: Tensor, settings: ObjectiveSettings) -> float:
    return float(sigreg(rows, directions, knots=settings.knots, t_max=settings.t_max))
