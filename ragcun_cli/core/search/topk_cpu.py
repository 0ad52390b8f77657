"""Ranking on a CPU: products by numpy's BLAS, everything after them in one compiled pass."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ragcun_cli.core.search import exact_scores, reservoirs
from ragcun_cli.core.search import topk_kernels as kernels
from ragcun_cli.core.search.exact_scores import Proposal, Similarity
from ragcun_cli.core.search.topk_kernels import Asked
from ragcun_cli.core.search.topk_passages import COSINE, DOT, EUCLIDEAN, Piece, prepare_passages

_QUERIES_AT_ONCE, _PASSAGES_AT_ONCE = 1024, 16384  # 64 MiB of float32 products
_TASKS_A_THREAD = 4
_WORTH_A_TASK = 2**14  # numbers to look at
_T = TypeVar("_T")
_CODES = {"euclidean": EUCLIDEAN, "cosine": COSINE, "dot": DOT}


class CpuRanking:
    """What queries hold. The arguments are those of ``ExactTopK``, checked.

    Threads, as many as torch would use, share the work; no result depends on how many there are.
    Memory: 16 bytes for each of 1.5 k hits a query, 1,024 queries by 16,384 passages of products,
    and a centred copy of 16,384 passages, whatever is added at once.
    """

    def __init__(self, queries: Tensor, *, k: int, similarity: Similarity) -> None:
        rows = exact_scores.widened(queries, kind="query", first_row=0, similarity=similarity)
        self._proposal = Proposal(rows, similarity=similarity)
        self._asked = Asked(
            vectors=_vectors(queries),
            lengths=exact_scores.lengths(rows).numpy(),
            shift=self._proposal.shift.numpy(),
            slope=self._proposal.slope.numpy(),
            slack=self._proposal.slack.numpy(),
        )
        self._held = reservoirs.empty(len(queries), k)
        self._products, self._centred = _Room(), _Room()
        self._k, self._code = k, _CODES[similarity]
        self.scored = 0
        """Pairs whose score was computed in float64."""

    def hold(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """Let ``(q, c)`` hits, best first, stand for passages that were ranked before."""
        columns = min(self._k, rows.shape[1])
        self._held.rows[:, :columns] = rows[:, :columns]
        self._held.scores[:, :columns] = scores[:, :columns]
        self._held.counts[:] = columns
        if columns == self._k:
            self._held.last[:] = self._held.scores[:, columns - 1]

    def best(self) -> tuple[Tensor, Tensor]:
        """``(q, k)`` rows and scores, best first; undefined where passages are fewer."""
        with _Threads() as threads:
            threads.share(
                len(self._held.counts),
                lambda first, stop: reservoirs.sort_best(self._held, first, stop, self._k),
                size=self._held.rows.size,
            )
        rows, scores = self._held.rows[:, : self._k], self._held.scores[:, : self._k]
        return torch.from_numpy(rows), torch.from_numpy(scores)

    def add(self, passages: Tensor, *, first_row: int) -> None:
        """Rank some more; as in ``ExactTopK``."""
        with _Threads() as threads:
            for start in range(0, len(passages), _PASSAGES_AT_ONCE):
                vectors = _vectors(passages[start : start + _PASSAGES_AT_ONCE])
                self._add_piece(vectors, first_row + start, threads)

    def _add_piece(self, vectors: NDArray[Any], first_row: int, threads: "_Threads") -> None:
        piece = self._prepared(vectors, first_row, threads)
        for start in range(0, len(self._asked.vectors), _QUERIES_AT_ONCE):
            left = self._proposal.factors[start : start + _QUERIES_AT_ONCE].numpy()
            products = self._products.of(len(left), len(piece.rows))
            np.matmul(left, piece.centred.T, out=products)
            self._keep_best(piece, products, start, threads)

    def _keep_best(
        self, piece: Piece, products: NDArray[np.float32], query: int, threads: "_Threads"
    ) -> None:
        held, asked, k, code = self._held, self._asked, self._k, self._code

        def work(first: int, stop: int) -> int:
            number = query + first
            starts, places = kernels.choose(
                held, asked, piece, products[first:stop], number, k, code
            )
            scores = kernels.compiled_scores(asked, piece, number, starts, places, code)
            reservoirs.keep(held, number, starts, piece.rows, places, scores, k)
            return len(scores)

        self.scored += sum(threads.share(len(products), work, size=products.size))

    def _prepared(self, vectors: NDArray[Any], first_row: int, threads: "_Threads") -> Piece:
        """The passages that can be hits, and what is derived of them."""
        count = len(vectors)
        piece = Piece(
            vectors=vectors,
            rows=np.arange(first_row, first_row + count),
            centred=self._centred.of(*vectors.shape),
            lengths=np.empty(count),
            lower=np.empty(count, np.float32),
            upper=np.empty(count, np.float32),
            sums=np.empty(count),
        )
        centre, roundoff = self._proposal.centre.numpy(), self._proposal.roundoff
        threads.share(
            count,
            lambda first, stop: prepare_passages(piece, first, stop, centre, self._code, roundoff),
            size=vectors.size,
        )
        exact_scores.refuse(piece.rows[piece.lengths < 0].tolist(), kind="passage")
        kept = exact_scores.without_spare_copies(
            torch.from_numpy(vectors), torch.from_numpy(piece.sums), copies=self._k
        ).numpy()
        return Piece(*(array[kept] for array in piece)) if len(kept) < count else piece


class _Threads:
    """Shares work among as many threads as torch would use."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(torch.get_num_threads())

    def __enter__(self) -> "_Threads":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def share(self, count: int, work: Callable[[int, int], _T], *, size: int) -> list[_T]:
        """What the work returns for each of the parts that so many things are cut in.

        Args:
            count: of the things.
            work: to be done from one of them to another.
            size: of all the work, in numbers looked at.
        """
        most = torch.get_num_threads() * _TASKS_A_THREAD
        parts = max(1, min(count, most, size // _WORTH_A_TASK))
        if parts == 1:
            return [work(0, count)]
        edges = [count * part // parts for part in range(parts + 1)]
        return list(self._pool.map(work, edges[:-1], edges[1:]))


class _Room:
    """Memory for float32 matrices, one at a time: new pages cost more than a product's reading."""

    def __init__(self) -> None:
        self._numbers = np.empty(0, np.float32)

    def of(self, rows: int, columns: int) -> NDArray[np.float32]:
        """A matrix of this size, whose numbers are undefined."""
        if self._numbers.size < rows * columns:
            self._numbers = np.empty(rows * columns, np.float32)
        return self._numbers[: rows * columns].reshape(rows, columns)


def _vectors(rows: Tensor) -> NDArray[Any]:
    """The rows as a matrix of float32, or of float64 if they are."""
    wanted = torch.promote_types(rows.dtype, torch.float32)
    return rows.detach().to("cpu", wanted).contiguous().numpy()
