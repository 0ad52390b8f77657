"""Ranking by torch alone, as on a GPU: every step is over all queries of a block at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ragcun_cli.core.search import exact_scores as scoring
from ragcun_cli.core.search.exact_scores import Proposal, Similarity, exact_scores

_QUERIES_AT_ONCE, _PASSAGES_AT_ONCE = 1024, 16384  # 64 MiB of float32 scores
_ELEMENTS_AT_ONCE = 2**20  # of a float64 matrix of rows: 8 MiB


class TorchRanking:
    """What queries hold, on their device. The arguments are those of ``ExactTopK``, checked."""

    def __init__(self, queries: Tensor, *, k: int, similarity: Similarity) -> None:
        self._queries, self._similarity, self._columns = queries, similarity, k
        rows = scoring.widened(queries, kind="query", first_row=0, similarity=similarity)
        self._proposal = Proposal(rows, similarity=similarity)
        self._scores = torch.full((len(queries), k), -torch.inf).to(rows)
        self._rows = torch.full_like(self._scores, 2**63 - 1, dtype=torch.int64)

    def hold(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """Let ``(q, c)`` hits, best first, stand for passages that were ranked before."""
        columns = min(self._columns, rows.shape[1])
        self._rows[:, :columns] = torch.from_numpy(rows[:, :columns].copy())
        self._scores[:, :columns] = torch.from_numpy(scores[:, :columns].copy())

    def best(self) -> tuple[Tensor, Tensor]:
        """``(q, k)`` rows and scores, best first; undefined where passages are fewer."""
        return self._rows.cpu(), self._scores.cpu()

    @torch.no_grad()
    def add(self, passages: Tensor, *, first_row: int) -> None:
        """Rank some more; as in ``ExactTopK``."""
        with _full_float32(self._queries.device.type):
            for start in range(0, len(passages), _PASSAGES_AT_ONCE):
                piece = passages[start : start + _PASSAGES_AT_ONCE].detach()
                self._add_piece(piece.to(self._queries.device), first_row=first_row + start)

    def _add_piece(self, passages: Tensor, *, first_row: int) -> None:
        rows = scoring.widened(
            passages, kind="passage", first_row=first_row, similarity=self._similarity
        )
        sums = scoring.weighted_sums(rows)
        kept = scoring.without_spare_copies(rows, sums, copies=self._columns)
        if len(kept) < len(rows):
            rows, passages = rows[kept], passages[kept]
        factors, bias, slack = self._proposal.of_passages(rows)
        for start in range(0, len(self._queries), _QUERIES_AT_ONCE):
            block = slice(start, start + _QUERIES_AT_ONCE)
            estimates = torch.addmm(bias, self._proposal.factors[block], factors)
            queries, columns = self._candidates(estimates, block=block, slack=slack).unbind(1)
            self._rescore(queries + start, columns, passages=passages, rows=first_row + kept)

    def _candidates(self, estimates: Tensor, *, block: slice, slack: Tensor) -> Tensor:
        """``(c, 2)`` pairs (query, column) that may be among the k best; spoils the estimates."""
        held = self._proposal.in_estimates(self._scores[block], block=block)
        best = estimates.topk(min(self._columns, estimates.shape[1]), dim=1).values
        last = torch.cat([held, best.to(held)], dim=1).topk(self._columns, dim=1).values[:, -1]
        cut = (last - 2 * self._proposal.slack[block]).to(estimates)
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
