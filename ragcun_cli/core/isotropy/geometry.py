"""Measures of pairs of embeddings: uniformity, alignment, and the gap between two sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

COSINE_BINS = 200
"""Of the histogram of cosines, over [-1, 1]."""

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Pairs:
    """What the cosines of all pairs of different rows look like."""

    uniformity: float
    """``log E exp(-2 |u - v|^2)`` of the rows made unit length, in [-8, 0]: 0 for one direction,
    near -4 for directions spread evenly in many dimensions (Wang and Isola 2020, arXiv:2005.10242,
    t = 2); -3.984 for N(0, I_512). Scale and rotation invariant. Ruled by the closest pairs, and
    blind to lengths."""

    counts: tuple[int, ...]
    """Pairs in each of `BINS` equal parts of [-1, 1], by their cosine."""


@torch.no_grad()
def measure_pairs(rows: Tensor) -> Pairs:
    """Uniformity and the histogram of cosines over all pairs, on the rows' device.

    O(n^2 d): meant for a sample. In float32, or float64 for rows in it.

    Args:
        rows: ``(n, d)`` with n >= 2, of a length above 0.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} rows make no pair")
    unit = normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=1)
    total = 0.0
    counts = torch.zeros(COSINE_BINS, dtype=torch.int64)
    for start in range(0, len(unit), _ROWS_AT_ONCE):
        some = unit[start : start + _ROWS_AT_ONCE]
        for other in range(start, len(unit), _ROWS_AT_ONCE):
            cosines = some @ unit[other : other + _ROWS_AT_ONCE].T
            if other == start:
                above = torch.ones_like(cosines, dtype=torch.bool).triu(1)
                cosines = cosines[above]
            cosines = cosines.clamp(-1, 1).flatten()
            total += float(torch.exp(4 * (cosines - 1)).sum(dtype=torch.float64))
            places = ((cosines + 1) * (COSINE_BINS / 2)).long().clamp(max=COSINE_BINS - 1)
            counts += torch.bincount(places, minlength=COSINE_BINS).cpu()
    pairs = len(unit) * (len(unit) - 1) // 2
    return Pairs(uniformity=math.log(total / pairs), counts=tuple(counts.tolist()))


def alignment(queries: Tensor, positives: Tensor) -> float:
    """``E |u - v|^2`` of pairs of unit length, in [0, 4]: 0 for the same direction, 2 for none.

    Wang and Isola 2020, arXiv:2005.10242, with alpha = 2. Scale and rotation invariant. Blind to
    lengths and to all other texts: a single point for all texts is perfectly aligned.

    Args:
        queries: ``(n, d)`` with n >= 1, of a length above 0.
        positives: ``(n, d)``; row i belongs to query i.
    """
    steps = normalize(queries.double(), dim=1) - normalize(positives.double(), dim=1)
    return float(steps.square().sum(1).mean())


def mean_gap(queries: Tensor, positives: Tensor) -> float:
    """``|mean of q - mean of p|^2`` over the mean squared length of all rows, in [0, 4].

    0 where both sides have one mean, 4 where they are two opposite points; the squared gap of Liang
    et al. 2022 (arXiv:2203.02053), of vectors as they are. Scale and rotation invariant, and not
    under translation. Chance alone gives about ``2 (1 - r) / n``, r the correlation of a pair.
    Blind to any difference but that of the means.

    Args:
        queries: ``(n, d)`` with n >= 1.
        positives: ``(n, d)``; row i belongs to query i.
    """
    sides = torch.stack([queries.double(), positives.double()])
    gap = sides[0].mean(0) - sides[1].mean(0)
    return float(gap @ gap / sides.square().sum(2).mean())
