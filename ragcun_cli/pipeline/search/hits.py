"""What a search finds for one query, whatever it searched with."""

from __future__ import annotations

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
