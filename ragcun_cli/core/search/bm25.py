"""What the terms of a corpus are worth to BM25.

All numbers are those of bm25s to the bit: the same formulas, with the same precision at each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["lucene", "robertson", "atire", "bm25l", "bm25+"]
Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

DELTA = 0.5
"""What bm25l and bm25+ add for lower bounds, as in bm25s."""

_RARITY: dict[Method, Callable[[int, int], float]] = {
    "lucene": lambda n, df: math.log(1 + (n - df + 0.5) / (df + 0.5)),
    "robertson": lambda n, df: math.log(max(1, (n - df + 0.5) / (df + 0.5))),
    "atire": lambda n, df: math.log(n / df),
    "bm25l": lambda n, df: math.log((n + 1) / (df + 0.5)),
    "bm25+": lambda n, df: math.log((n + 1) / df),
}


@dataclass(frozen=True)
class Weights:
    """What each term of a corpus is worth (Kamphuis et al. 2020, "Which BM25 Do You Mean?").

    A score is a sum over the query's terms, each as often as the query has it, of
    ``idf(term) * tfc(count in the passage, length of the passage / mean length)``. bm25l and bm25+
    give terms that do not occur a weight too: it is in ``absent``, to be added for every term of a
    query, and ``scores`` are what exceeds it.
    """

    method: Method
    k1: float
    b: float
    mean_length: float
    idf: Floats
    """``(terms,)``."""
    absent: Floats
    """``(terms,)``, zero but for bm25l and bm25+."""

    @classmethod
    def of(
        cls,
        method: Method,
        k1: float,
        b: float,
        *,
        passages: int,
        mean_length: float,
        occurrences: Ints,
    ) -> Weights:
        """Those of a corpus.

        Args:
            method: which BM25.
            k1: saturation of the count of a term.
            b: share of the length that is normalised away, in [0, 1].
            passages: how many there are, empty ones too.
            mean_length: terms of a passage in the mean.
            occurrences: ``(terms,)`` how many passages each term occurs in, 1 or more.
        """
        idf = np.array([_RARITY[method](passages, df) for df in occurrences.tolist()], np.float64)
        share = 0.0
        if method in ("bm25l", "bm25+"):
            share = float(_saturated(method, k1, np.zeros(1, np.float32), np.ones(1))[0])
        absent = (idf * share).astype(np.float32)
        return cls(method, k1, b, mean_length, idf.astype(np.float32), absent)

    def scores(self, terms: Ints, counts: Floats, lengths: Ints) -> Floats:
        """``(n,)`` what each posting adds to the score of its passage.

        Args:
            terms: ``(n,)`` term of each posting.
            counts: ``(n,)`` how often it occurs in the passage.
            lengths: ``(n,)`` terms of the passage, repeated ones too.
        """
        norm = 1 - self.b + self.b * lengths.astype(np.float64) / self.mean_length
        saturated = _saturated(self.method, self.k1, counts, norm)
        scores = self.idf[terms] * saturated - self.absent[terms]
        return scores.astype(np.float32)


def _saturated(
    method: Method, k1: float, counts: Floats, norm: NDArray[np.float64]
) -> NDArray[np.float64]:
    if method == "atire":
        return counts * (k1 + 1) / (counts + k1 * norm)
    if method == "bm25l":
        shifted = counts / norm + DELTA
        return (k1 + 1) * shifted / (k1 + shifted)
    if method == "bm25+":
        return (k1 + 1) * counts / (k1 * norm + counts) + DELTA
    return counts / (k1 * norm + counts)
