"""Passages made ready for ranking on a CPU; compiled as ``topk_kernels`` are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.search.bm25 import Floats
from ragcun_cli.core.search.compiled import njit
from ragcun_cli.core.search.exact_scores import LONGEST_SQUARED, SHORTEST_SQUARED, UNDERFLOW

Doubles = NDArray[np.float64]
Vectors = NDArray[Any]

EUCLIDEAN, COSINE, DOT = 0, 1, 2


class Piece(NamedTuple):
    """Passages to rank."""

    vectors: Vectors
    """``(n, d)``, float32 or float64."""
    rows: NDArray[np.int64]
    """``(n,)``."""
    centred: Floats
    """``(n, d)`` right factors of the float32 product."""
    lengths: Doubles
    """``(n,)``."""
    lower: Floats
    """``(n,)`` added to a product: the least that the exact value can be."""
    upper: Floats
    """``(n,)`` added to a product: the most."""
    sums: Doubles
    """``(n,)`` equal for identical passages."""


@njit(nogil=True, error_model="numpy")
def prepare_passages(
    piece: Piece, first: int, stop: int, centre: Doubles, similarity: int, roundoff: float
) -> None:
    """Fill in what is derived of passages ``first`` to ``stop``; length -1 marks unusable ones.

    Args:
        piece: of which ``vectors`` is given.
        first: of the passages to do.
        stop: after the last of them.
        centre: ``(d,)`` subtracted from them.
        similarity: EUCLIDEAN, COSINE or DOT.
        roundoff: as in ``Proposal``, whose ``of_passages`` is the same arithmetic.
    """
    width = len(centre)
    point, buffer = np.empty(width), np.empty(width)
    double = (np.log2(width) + 16) * 2.0**-52
    shortest = SHORTEST_SQUARED if similarity == COSINE else -1.0
    middle = np.sqrt((centre * centre).sum())
    for place in range(first, stop):
        vector, centred = piece.vectors[place], piece.centred[place]
        for i in range(width):
            point[i] = vector[i]
            buffer[i] = point[i] * point[i]
        whole = tree_sum(buffer)
        if not (shortest < whole <= LONGEST_SQUARED):
            piece.lengths[place] = -1.0
            continue
        length = piece.lengths[place] = np.sqrt(whole)
        scale = 1 / length if similarity == COSINE else 1.0
        for i in range(width):
            away = point[i] * scale - centre[i]
            centred[i] = away
            buffer[i] = away * away
        squared = tree_sum(buffer)
        piece.sums[place] = whole + 1.618 * squared
        if similarity == DOT:
            bias = 0.0
            slack = double * (length + middle) + roundoff * np.sqrt(squared)
        else:
            bias = -squared
            slack = 2 * roundoff * squared + (8 * double if similarity == COSINE else 0.0)
        slack += width * UNDERFLOW
        piece.lower[place] = bias - slack
        piece.upper[place] = piece.lower[place] + 2 * np.float32(slack)


@njit(nogil=True)
def tree_sum(values: Doubles) -> float:
    """The sum in the order of ``row_sums``; spoils the values."""
    width = len(values)
    while width > 1:
        half = width // 2
        for i in range(half):
            values[i] += values[half + i]
        if width % 2:
            values[0] += values[width - 1]
        width = half
    return float(values[0])
