"""The k best passages of each query, exactly, from a corpus that comes in chunks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Similarity = Literal["euclidean", "cosine", "dot"]

# A block of 1,024 queries and 16,384 passages holds 64 MiB of float32 scores.
_QUERIES_AT_ONCE = 1024
_PASSAGES_AT_ONCE = 16384
# Pairs scored in float64 at once hold 32 MiB a matrix.
_ELEMENTS_AT_ONCE = 2**17
_LONGEST_SQUARED = 1e36  # above it 2 q.d can overflow float32
_NO_ROW = np.iinfo(np.int64).max


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
    ``q.d / (|q| |d|)`` or ``q.d``. float32 products only propose: whatever their error bound (Higham
    2002, section 3.1, for any order of summation) cannot exclude is scored again, so neither chunks,
    blocks nor the device move a hit. Equal scores go to the lower row, also at the cut.
    Euclidean and cosine centre on the queries' mean, which keeps distances and loses a common offset.
    Memory: a block of 1,024 queries by 16,384 passages, whatever the number of ties.

    Args:
        queries: ``(q, d)`` with q >= 1, floating point; half precisions are widened.
        k: how many to keep, at least 1; a smaller corpus gives fewer columns.
        similarity: what "best" means.

    Raises:
        ValueError: ``k`` below 1, an unknown similarity, a wrong shape, or a row that is not finite,
            longer than 1e18, or of length 0 under cosine, where it has no direction.
    """

    def __init__(self, queries: Tensor, *, k: int, similarity: Similarity) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; at least one passage has to be kept")
        if similarity not in get_args(Similarity):
            raise ValueError(f"similarity {similarity!r} is none of {', '.join(get_args(Similarity))}")
        if len(queries) == 0:
            raise ValueError("there are no queries to rank for")
        self._similarity = similarity
        self._queries = queries.detach()
        self._columns = k
        self._seen = 0
        points = _points(self._queries, similarity=similarity, kind="query", first_row=0)
        self._centre = points.mean(0)
        centred = points if similarity == "dot" else points - self._centre
        self._factors = _float32(centred if similarity == "dot" else 2 * centred, queries.device)
        self._squared = (centred * centred).sum(1)
        self._offset = points @ self._centre
        self._lengths = points.norm(dim=1)
        shape = (len(queries), k)
        self._rows = torch.full(shape, _NO_ROW, dtype=torch.int64, device=points.device)
        self._scores = torch.full(shape, -torch.inf, dtype=torch.float64, device=points.device)

    @torch.no_grad()
    def add(self, passages: Tensor, *, first_row: int) -> None:
        """Rank one more chunk; chunks may come in any order, each row once.

        Args:
            passages: ``(n, d)``, floating point; its rows are ``first_row`` to ``first_row + n - 1``.
            first_row: row number of the chunk's first passage, at least 0.

        Raises:
            ValueError: as for the queries, or a negative row; the chunk is then only partly ranked.
        """
        if first_row < 0:
            raise ValueError(f"first_row is {first_row}; rows are counted from 0")
        _check_shape(passages, kind="passage")
        if passages.shape[1] != self._queries.shape[1]:
            raise ValueError(
                f"passages have {passages.shape[1]} dimensions, queries {self._queries.shape[1]}"
            )
        with _full_float32(self._queries.device.type):
            for start in range(0, len(passages), _PASSAGES_AT_ONCE):
                piece = passages[start : start + _PASSAGES_AT_ONCE].detach()
                self._add_piece(piece.to(self._queries.device), first_row=first_row + start)
        self._seen += len(passages)

    def hits(self) -> Hits:
        """The best of what was added so far, ``min(k, passages added)`` columns wide."""
        columns = min(self._columns, self._seen)
        return Hits(
            rows=self._rows[:, :columns].cpu().numpy().copy(),
            scores=self._scores[:, :columns].cpu().numpy().copy(),
        )

    def _add_piece(self, passages: Tensor, *, first_row: int) -> None:
        points = _points(passages, similarity=self._similarity, kind="passage", first_row=first_row)
        kept = _without_spare_copies(points, copies=self._columns)
        if len(kept) < len(points):
            points, passages = points[kept], passages[kept.to(passages.device)]
        centred = points - self._centre
        squared = _row_sums(centred * centred)
        longest = float(points.norm(dim=1).max())
        margins = self._margins(longest=longest, spread=float(squared.max().sqrt()))
        columns = _float32(centred, passages.device).T
        bias = torch.zeros_like(squared) if self._similarity == "dot" else -squared
        bias = _float32(bias, passages.device)
        for start in range(0, len(self._queries), _QUERIES_AT_ONCE):
            block = slice(start, start + _QUERIES_AT_ONCE)
            estimates = torch.addmm(bias, self._factors[block], columns)
            queries, chosen = self._candidates(estimates, block=block, margins=margins[block])
            self._rescore(queries + start, chosen, passages=passages, rows=first_row + kept)

    def _margins(self, *, longest: float, spread: float) -> Tensor:
        """``(q,)`` bounds on how far an estimate is from the estimated float64 score.

        With g = d times the unit roundoff, twice over for what comes beside the product: g32 on
        centred lengths, g64 on full ones, and d times what underflow may lose.
        """
        dimensions = self._queries.shape[1] + 16
        centred = self._squared.sqrt() + spread
        full = self._lengths + longest + self._centre.norm()
        return dimensions * (centred**2 * 2.0**-23 + full**2 * 2.0**-50 + 2.0**-120)

    def _candidates(
        self, estimates: Tensor, *, block: slice, margins: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pairs (query of the block, column) whose exact score may be among the k best."""
        held = self._as_estimates(self._scores[block], block=block)
        best = estimates.topk(min(self._columns, estimates.shape[1]), dim=1).values
        contenders = torch.cat([held, best.to(held)], dim=1)
        cut = contenders.topk(self._columns, dim=1).values[:, -1] - 2 * margins
        pairs = (estimates >= _float32(cut, estimates.device)[:, None]).nonzero().to(margins.device)
        return pairs[:, 0], pairs[:, 1]

    def _as_estimates(self, scores: Tensor, *, block: slice) -> Tensor:
        """What the float32 product would say of these ``(b, k)`` scores, were it exact."""
        squared = self._squared[block, None]
        if self._similarity == "dot":
            return scores - self._offset[block, None]
        if self._similarity == "cosine":
            return squared - 2 + 2 * scores
        return squared - scores**2

    def _rescore(self, queries: Tensor, chosen: Tensor, *, passages: Tensor, rows: Tensor) -> None:
        at_once = max(1, _ELEMENTS_AT_ONCE // passages.shape[1])
        for query, column in zip(queries.split(at_once), chosen.split(at_once), strict=True):
            scores = _exact_scores(
                self._queries[query.to(self._queries.device)].to(self._scores),
                passages[column.to(passages.device)].to(self._scores),
                similarity=self._similarity,
            )
            self._merge(query, scores, rows=rows[column])

    def _merge(self, queries: Tensor, scores: Tensor, *, rows: Tensor) -> None:
        """Let ``(c,)`` scored pairs, ordered by query, compete with what these queries hold."""
        if len(queries) == 0:
            return
        touched, counts = queries.unique_consecutive(return_counts=True)
        owners = torch.cat([touched.repeat_interleave(self._columns), queries])
        scores = torch.cat([self._scores[touched].flatten(), scores])
        rows = torch.cat([self._rows[touched].flatten(), rows])
        order = rows.argsort(stable=True)
        order = order[scores[order].argsort(descending=True, stable=True)]
        order = order[owners[order].argsort(stable=True)]
        sizes = counts + self._columns
        firsts = sizes.cumsum(0) - sizes
        best = order[firsts[:, None] + torch.arange(self._columns, device=order.device)]
        self._scores[touched], self._rows[touched] = scores[best], rows[best]


def _check_shape(vectors: Tensor, *, kind: str) -> None:
    if vectors.ndim != 2 or vectors.shape[1] == 0 or not vectors.is_floating_point():
        raise ValueError(
            f"{kind} embeddings have shape {tuple(vectors.shape)} and type {vectors.dtype}; "
            "they have to be a matrix (n, d) of floating point numbers"
        )


def _points(vectors: Tensor, *, similarity: Similarity, kind: str, first_row: int) -> Tensor:
    """The rows in float64, of unit length for cosine; MPS has no float64 and leaves it to the CPU."""
    _check_shape(vectors, kind=kind)
    device = torch.device("cpu") if vectors.device.type == "mps" else vectors.device
    points = vectors.to(device).to(torch.float64)
    squared = (points * points).sum(1)
    _refuse(~(squared <= _LONGEST_SQUARED), "not finite, or longer than 1e18", kind, first_row)
    if similarity != "cosine":
        return points
    _refuse(squared == 0, "of length 0 and without a direction", kind, first_row)
    return points / squared.sqrt()[:, None]


def _refuse(bad: Tensor, what: str, kind: str, first_row: int) -> None:
    rows = (bad.nonzero().flatten() + first_row).tolist()
    if rows:
        first = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise ValueError(f"{len(rows)} {kind} embedding(s) are {what}: row {first}")


def _without_spare_copies(points: Tensor, *, copies: int) -> Tensor:
    """Indices of the rows that have fewer than ``copies`` identical rows before them.

    The others cannot be hits; without them thousands of identical passages cost no more than k.
    """
    keep = torch.ones(len(points), dtype=torch.bool, device=points.device)
    weights = torch.linspace(1, 2, points.shape[1], dtype=torch.float64).sin().to(points.device)
    _, groups, sizes = _row_sums(points * weights).unique(return_inverse=True, return_counts=True)
    for group in (sizes > copies).nonzero().flatten():
        members = (groups == group).nonzero().flatten()
        same = (points[members] == points[members[0]]).all(1)
        keep[members[same][copies:]] = False
    return keep.nonzero().flatten()


def _exact_scores(queries: Tensor, passages: Tensor, *, similarity: Similarity) -> Tensor:
    """``(c,)`` scores of ``(c, d)`` pairs of float64 rows."""
    if similarity == "euclidean":
        return 0.0 - _row_sums((queries - passages).square_()).sqrt()
    products = _row_sums(queries * passages)
    if similarity == "cosine":
        lengths = _row_sums(queries * queries).sqrt() * _row_sums(passages * passages).sqrt()
        products = products / lengths
    return products + 0.0  # no negative zero, which a radix sort may set apart


def _row_sums(values: Tensor) -> Tensor:
    """``(c,)`` sums in an order fixed by d alone: equal rows sum alike in any batch and device."""
    while (width := values.shape[1]) > 1:
        half = width // 2
        sums = values[:, :half] + values[:, half : 2 * half]
        if width % 2:
            sums[:, 0] += values[:, -1]
        values = sums
    return values[:, 0]


def _float32(values: Tensor, device: torch.device) -> Tensor:
    return values.to(torch.float32).to(device)


@contextmanager
def _full_float32(device_type: str) -> Iterator[None]:
    """Products in true float32, whatever TF32, bfloat16 or autocast the process has allowed."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
