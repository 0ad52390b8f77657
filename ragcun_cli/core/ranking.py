"""The k best passages of each query, exactly, from a corpus that comes in chunks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Similarity = Literal["euclidean", "cosine", "dot"]

_QUERIES_AT_ONCE, _PASSAGES_AT_ONCE = 1024, 16384  # 64 MiB of float32 scores
_ELEMENTS_AT_ONCE = 2**20  # of a float64 matrix of rows: 8 MiB
_LONGEST_SQUARED = 1e36  # above it 2 q.d can overflow float32
_SHORTEST_SQUARED = 1e-200  # below it a length loses digits; float32 has nothing under 1e-90
_UNDERFLOW = 2.0**-120  # bounds what flushing to zero loses in one dimension of a score


@dataclass(frozen=True)
class Hits:
    """The best passages of each query, best first; equal scores stand in order of row."""

    rows: NDArray[np.int64]
    """``(q, k)`` row numbers of passages."""
    scores: NDArray[np.float64]
    """``(q, k)``, higher is better; for Euclidean minus the distance, not squared."""


class ExactTopK:
    """The k best passages of each query among all that were added.

    Scores are those of float64 arithmetic on the vectors as given: minus ``|q - d|``,
    ``q.d / (|q| |d|)`` or ``q.d``. float32 only proposes, by ``2 q.d - |d|^2`` of centred vectors:
    what its error bound ``d u |q| |d|`` (Higham 2002, section 3.1, any order of summation) cannot
    exclude is scored again. So neither chunks, blocks nor device move a hit, and equal scores go to
    the lower row, also at the cut. Centring on the queries' mean keeps distances and loses a large
    common offset. Memory: 1,024 queries by 16,384 passages at a time, whatever the number of ties.

    Args:
        queries: ``(q, d)`` with q >= 1, floating point; half precisions are widened.
        k: how many to keep, at least 1; a smaller corpus gives fewer columns.
        similarity: what "best" means.

    Raises:
        ValueError: ``k`` below 1, an unknown similarity, a wrong shape, or a row that is not
            finite, longer than 1e18, or of length 0 under cosine, where it has no direction.
    """

    def __init__(self, queries: Tensor, *, k: int, similarity: Similarity) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; at least one passage has to be kept")
        if similarity not in get_args(Similarity):
            raise ValueError(f"similarity {similarity!r} is none of {get_args(Similarity)}")
        if queries.numel() == 0:
            raise ValueError("there are no queries to rank for")
        # MPS has no float64.
        device = torch.device("cpu") if queries.device.type == "mps" else queries.device
        self._queries = queries.detach().to(device)
        self._similarity, self._columns, self._seen = similarity, k, 0
        points = self._points(self._widened(self._queries, kind="query", first_row=0))
        self._roundoff = (points.shape[1] + 16) * 2.0**-23  # d u, twice over
        self._centre = points.mean(0)
        if similarity == "dot":
            lengths = _lengths(points)
            scale = torch.where(lengths > 0, lengths, 1.0)
            factors = points / scale[:, None]
            self._shift, self._slope = -_row_sums(points * self._centre) / scale, 1 / scale
            self._slack = torch.zeros_like(scale)
        else:
            factors = 2 * (points - self._centre)
            squared = _row_sums(factors * factors) / 4
            self._shift, self._slope = squared, torch.ones_like(squared)
            self._slack = 2 * self._roundoff * squared
        self._factors = factors.float()
        self._scores = torch.full((len(queries), k), -torch.inf).to(points)
        self._rows = torch.full_like(self._scores, 2**63 - 1, dtype=torch.int64)

    @torch.no_grad()
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
        with _full_float32(self._queries.device.type):
            for start in range(0, len(passages), _PASSAGES_AT_ONCE):
                piece = passages[start : start + _PASSAGES_AT_ONCE].detach()
                self._add_piece(piece.to(self._queries.device), first_row=first_row + start)
        self._seen += len(passages)

    def hold(self, hits: Hits) -> None:
        """Go on from what an earlier search of other rows has found, before anything is added."""
        width = hits.rows.shape[1]
        self._rows[:, :width] = torch.from_numpy(hits.rows).to(self._rows)
        self._scores[:, :width] = torch.from_numpy(hits.scores).to(self._scores)
        self._seen = width

    def hits(self) -> Hits:
        """The best of what was added so far, ``min(k, passages added)`` columns wide."""
        columns = min(self._columns, self._seen)
        rows, scores = self._rows[:, :columns].cpu(), self._scores[:, :columns].cpu()
        return Hits(rows=rows.numpy().copy(), scores=scores.numpy().copy())

    def _add_piece(self, passages: Tensor, *, first_row: int) -> None:
        widened = self._widened(passages, kind="passage", first_row=first_row)
        kept = _without_spare_copies(widened, copies=self._columns)
        if len(kept) < len(widened):
            widened, passages = widened[kept], passages[kept]
        factors, bias, slack = self._proposal(self._points(widened))
        for start in range(0, len(self._queries), _QUERIES_AT_ONCE):
            block = slice(start, start + _QUERIES_AT_ONCE)
            estimates = torch.addmm(bias, self._factors[block], factors)
            queries, columns = self._candidates(estimates, block=block, slack=slack).unbind(1)
            self._rescore(queries + start, columns, passages=passages, rows=first_row + kept)

    def _widened(self, vectors: Tensor, *, kind: str, first_row: int) -> Tensor:
        """The rows in float64, checked."""
        dimensions = self._queries.shape[-1]
        if vectors.ndim != 2 or vectors.shape[1] != dimensions or not vectors.is_floating_point():
            raise ValueError(
                f"{kind} embeddings of shape {tuple(vectors.shape)} and type {vectors.dtype} are "
                f"no floating point matrix of {dimensions} columns"
            )
        rows = vectors.to(torch.float64)
        squared = _row_sums(rows * rows)
        shortest = _SHORTEST_SQUARED if self._similarity == "cosine" else -1.0
        usable = (squared > shortest) & (squared <= _LONGEST_SQUARED)
        if bad := ((~usable).nonzero().flatten() + first_row).tolist():
            what = "not finite, longer than 1e18, or (for cosine) of length 0"
            raise ValueError(f"{len(bad)} {kind} embeddings are {what}; first rows: {bad[:5]}")
        return rows

    def _points(self, rows: Tensor) -> Tensor:
        """The float64 rows, of unit length for cosine."""
        return rows / _lengths(rows)[:, None] if self._similarity == "cosine" else rows

    def _proposal(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Columns ``(d, n)``, bias ``(n,)`` and slack ``(n,)`` of the float32 product with queries.

        The exact value lies between estimate and estimate + 2 slack, give or take the query's own
        slack. Dot products are of queries of unit length, which leaves their order as it is.
        """
        centred = points - self._centre
        squared = _row_sums(centred * centred)
        double = (float(np.log2(points.shape[1])) + 16) * 2.0**-52
        if self._similarity == "dot":
            bias = torch.zeros_like(squared)
            slack = double * (_lengths(points) + self._centre.norm())
            slack += self._roundoff * squared.sqrt()
        else:
            bias = -squared
            slack = 2 * self._roundoff * squared
            slack += 8 * double * (self._similarity == "cosine")
        slack += points.shape[1] * _UNDERFLOW
        return centred.float().T, (bias - slack).float(), slack.float()

    def _candidates(self, estimates: Tensor, *, block: slice, slack: Tensor) -> Tensor:
        """``(c, 2)`` pairs (query, column) that may be among the k best; spoils the estimates."""
        held = self._scores[block]
        measure = {"euclidean": -(held**2), "cosine": 2 * held - 2, "dot": held}[self._similarity]
        held = self._shift[block, None] + self._slope[block, None] * measure
        best = estimates.topk(min(self._columns, estimates.shape[1]), dim=1).values
        last = torch.cat([held, best.to(held)], dim=1).topk(self._columns, dim=1).values[:, -1]
        cut = (last - 2 * self._slack[block]).to(estimates)
        estimates += 2 * slack
        return (estimates >= cut[:, None]).nonzero()

    def _rescore(self, queries: Tensor, columns: Tensor, *, passages: Tensor, rows: Tensor) -> None:
        at_once = max(1, _ELEMENTS_AT_ONCE // passages.shape[1])
        for start in range(0, len(columns), at_once):
            query, column = queries[start : start + at_once], columns[start : start + at_once]
            left, right = self._queries[query].double(), passages[column].double()
            scores = exact_scores(left, right, similarity=self._similarity)
            self._merge(query, scores, rows=rows[column])

    def _merge(self, queries: Tensor, scores: Tensor, *, rows: Tensor) -> None:
        """Let ``(c,)`` scored pairs, ordered by query, compete with what these queries hold."""
        first = int(queries[0])
        sizes = (queries - first).bincount() + self._columns
        block = slice(first, first + len(sizes))
        holders = torch.arange(block.start, block.stop, device=queries.device)
        queries = torch.cat([holders.repeat_interleave(self._columns), queries])
        scores = torch.cat([self._scores[block].flatten(), scores])
        rows = torch.cat([self._rows[block].flatten(), rows])
        order = rows.argsort(stable=True)
        order = order[scores[order].argsort(descending=True, stable=True)]
        order = order[queries[order].argsort(stable=True)]
        ranks = torch.arange(self._columns, device=order.device)
        best = order[(sizes.cumsum(0) - sizes)[:, None] + ranks]
        self._scores[block], self._rows[block] = scores[best], rows[best]


def merge(parts: Sequence[Hits], *, k: int) -> Hits:
    """The ``k`` best of what searches of different rows have found for the same queries."""
    rows = np.concatenate([part.rows for part in parts], axis=1)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return Hits(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))


def _without_spare_copies(points: Tensor, *, copies: int) -> Tensor:
    """Indices of the rows that have fewer than ``copies`` identical rows before them.

    The others cannot be hits; without them thousands of identical passages cost no more than k.
    """
    keep = torch.ones(len(points), dtype=torch.bool, device=points.device)
    weights = torch.linspace(1, 2, points.shape[1], dtype=torch.float64).sin().to(points.device)
    sums = _row_sums(points * weights).cpu().numpy()
    _, groups, sizes = np.unique(sums, return_inverse=True, return_counts=True)
    for group in np.flatnonzero(sizes > copies):
        members = torch.from_numpy(np.flatnonzero(groups == group)).to(points.device)
        same = (points[members] == points[members[0]]).all(1)
        keep[members[same][copies:]] = False
    return keep.nonzero().flatten()


def exact_scores(queries: Tensor, passages: Tensor, *, similarity: Similarity) -> Tensor:
    """``(c,)`` scores of ``(c, d)`` pairs of float64 rows, 0.0 where a sum comes out as -0.0."""
    if similarity == "euclidean":
        return 0.0 - _lengths(queries - passages)
    products = _row_sums(queries * passages) + 0.0
    if similarity == "cosine":
        products /= _lengths(queries) * _lengths(passages)
    return products


def _lengths(rows: Tensor) -> Tensor:
    return _row_sums(rows * rows).sqrt()


def _row_sums(values: Tensor) -> Tensor:
    """``(c,)`` sums in an order fixed by d alone: equal rows sum alike in any batch and device."""
    while (width := values.shape[1]) > 1:
        half = width // 2
        sums = values[:, :half] + values[:, half : 2 * half]
        if width % 2:
            sums[:, 0] += values[:, -1]
        values = sums
    return values[:, 0]


@contextmanager
def _full_float32(device_type: str) -> Iterator[None]:
    """Products in true float32, whatever TF32, bfloat16 or autocast the process has allowed."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
