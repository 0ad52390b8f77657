"""The k best passages of each query, exactly, from a corpus that comes in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ragcun_cli.core.search import exact_scores as scoring
from ragcun_cli.core.search.exact_scores import Similarity, exact_scores
from ragcun_cli.core.search.topk_cpu import CpuRanking
from ragcun_cli.core.search.topk_torch import TorchRanking

__all__ = ["ExactTopK", "Hits", "Similarity", "exact_scores", "merge"]


@dataclass(frozen=True)
class Hits:
    """The best passages of each query, best first; equal scores stand in order of row."""

    rows: NDArray[np.int64]
    """``(q, k)`` row numbers of passages."""
    scores: NDArray[np.float64]
    """``(q, k)``, higher is better; for Euclidean minus the distance, not squared."""


class _Ranking(Protocol):
    """A way to rank."""

    def __init__(self, queries: Tensor, *, k: int, similarity: Similarity) -> None: ...

    def hold(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> None: ...

    def add(self, passages: Tensor, *, first_row: int) -> None: ...

    def best(self) -> tuple[Tensor, Tensor]: ...


class ExactTopK:
    """The k best passages of each query among all that were added.

    Scores are those of float64 arithmetic on the vectors as given: minus ``|q - d|``,
    ``q.d / (|q| |d|)`` or ``q.d``. float32 only proposes: what its error bound cannot exclude is
    scored again. So hits and scores are a function of the passages and their rows, to the bit:
    neither chunks, their order, blocks, threads nor device move one, at any of the k ranks, and
    equal scores go to the lower row, also at the cut. Hits may be saved between two chunks, and a
    search that is made to hold them goes on from there to the same bytes; of parts of a corpus
    ``merge`` makes the hits of the whole.

    Memory does not grow with the corpus, nor with the number of ties.

    Args:
        queries: ``(q, d)`` with q >= 1, floating point; half precisions are widened.
        k: how many to keep, at least 1; a smaller corpus gives fewer columns.
        similarity: what "best" means.
        held: hits of these queries among passages that will not be added again, of a search for
            at least k; none begins anew.

    Raises:
        ValueError: ``k`` below 1, an unknown similarity, a wrong shape, or a row that is not
            finite, longer than 1e18, or of length 0 under cosine, where it has no direction.
    """

    _on_cpu: ClassVar[type[_Ranking]] = CpuRanking

    def __init__(
        self, queries: Tensor, *, k: int, similarity: Similarity, held: Hits | None = None
    ) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; at least one passage has to be kept")
        if similarity not in get_args(Similarity):
            raise ValueError(f"similarity {similarity!r} is none of {get_args(Similarity)}")
        if queries.numel() == 0:
            raise ValueError("there are no queries to rank for")
        self._dimensions = queries.shape[-1]
        scoring.check_shape(queries, kind="query", dimensions=self._dimensions)
        # MPS has no float64.
        device = torch.device("cpu") if queries.device.type == "mps" else queries.device
        ranking = self._on_cpu if device.type == "cpu" else TorchRanking
        self._ranking = ranking(queries.detach().to(device), k=k, similarity=similarity)
        self._columns, self._seen = k, 0
        if held is not None:
            if held.rows.shape != held.scores.shape or len(held.rows) != len(queries):
                raise ValueError(f"hits of {len(held.rows)} queries are none of {len(queries)}")
            self._ranking.hold(held.rows, held.scores)
            self._seen = held.rows.shape[1]

    def add(self, passages: Tensor, *, first_row: int) -> None:
        """Rank one more chunk; chunks may come in any order, each row once.

        Args:
            passages: ``(n, d)``, floating point: rows ``first_row`` to ``first_row + n - 1``.
            first_row: row number of the chunk's first passage, at least 0.

        Raises:
            ValueError: as for the queries, or a negative row; the chunk may be ranked in part.
        """
        if first_row < 0:
            raise ValueError(f"first_row is {first_row}; rows are counted from 0")
        scoring.check_shape(passages, kind="passage", dimensions=self._dimensions)
        self._ranking.add(passages, first_row=first_row)
        self._seen += len(passages)

    def hits(self) -> Hits:
        """The best of what was added so far, ``min(k, passages added)`` columns wide."""
        columns = min(self._columns, self._seen)
        rows, scores = (best[:, :columns].numpy().copy() for best in self._ranking.best())
        return Hits(rows=rows, scores=scores)


def merge(parts: Sequence[Hits], *, k: int) -> Hits:
    """The hits among all passages, from the hits of the same queries among parts of them.

    Equal to one search to the bit, whatever the parts and their order.

    Args:
        parts: at least one, each of a search for at least k.
        k: how many to keep, at least 1; parts that have fewer together give fewer columns.

    Raises:
        ValueError: ``k`` below 1, no part, parts of different numbers of queries, or a row that
            two parts have.
    """
    if k < 1:
        raise ValueError(f"k is {k}; at least one passage has to be kept")
    if len({len(part.rows) for part in parts}) != 1:
        raise ValueError(f"{len(parts)} parts are not hits of the same queries")
    rows = np.concatenate([part.rows for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    order = np.lexsort((rows, -scores), axis=1)
    rows, scores = (np.take_along_axis(part, order, axis=1) for part in (rows, scores))
    if (again := rows[:, 1:][rows[:, 1:] == rows[:, :-1]]).size:
        raise ValueError(f"two parts have the same row: {again[0]}")
    return Hits(rows=rows[:, :k].copy(), scores=scores[:, :k].copy())
