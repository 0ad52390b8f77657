"""What a search finds for one query, whatever it searched with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class QueryHits(NamedTuple):
    """The best passages of one query, best first; equal scores stand in order of passage id."""

    query: str
    rows: NDArray[np.int64]
    """``(hits,)`` rows of the corpus."""
    scores: NDArray[np.floating[Any]]
    """``(hits,)``, higher is better; of BM25 all above 0."""


class Scores(Protocol):
    """Where hits are from, and scores of passages that are none."""

    def scores_of(self, query: str, rows: ArrayLike) -> NDArray[np.floating[Any]]:
        """``(n,)`` scores of some rows for a query, whatever their rank."""


class Scorer(Protocol):
    """Scores passages for one query."""

    def scores(self, query: str, passages: Sequence[str]) -> NDArray[np.float64]:
        """``(n,)``, higher is better.

        Batches are of one query's texts, so that neither the queries before it nor a stop and a
        second start move a digit.
        """
