"""BM25, as a source of hard negatives and as a row of the results table."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragcun_cli.core.search.bm25 import Floats, Ints
from ragcun_cli.core.search.postings import best, read_keys
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.hits import QueryHits
from ragcun_cli.pipeline.search.lexical.index import Postings, build_index
from ragcun_cli.spec.mining_config import MiningConfig

QUERIES_AT_ONCE = 64


class LexicalIndex:
    """BM25 over one corpus.

    The numbers are those of bm25s to the bit. Passages that share no term with a query are no hits,
    nor are those that share only terms worth nothing.
    """

    def __init__(
        self, corpus: Corpus, config: MiningConfig, *, postings: Postings | None = None
    ) -> None:
        """Over these passages.

        Args:
            corpus: any.
            config: which BM25, of which terms.
            postings: of this corpus and these settings, as `open_or_build` keeps them; none makes
                them now, and keeps none.
        """
        self._corpus = corpus
        self._postings = postings or _made_now(corpus, config)

    def search_batches(
        self, queries: Mapping[str, str], *, depth: int, threads: int | None = None
    ) -> Iterator[QueryHits]:
        """The best passages of each query, in the order of the queries, as they are found.

        Memory does not grow with the number of queries. The arithmetic holds no lock of Python's,
        so that threads share the work and the index; no result depends on how many there are.

        Args:
            queries: query id -> text.
            depth: how many passages to look for.
            threads: at work at once; none means one for each core.
        """
        threads = threads or os.cpu_count() or 1
        depth = max(1, min(depth, len(self._corpus)))
        order = list(queries)
        running: deque[tuple[Sequence[str], Future[NDArray[np.int64]]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(order), QUERIES_AT_ONCE):
                names = order[start : start + QUERIES_AT_ONCE]
                asked = [self._postings.terms.of(queries[name]) for name in names]
                running.append((names, pool.submit(self._best, asked, depth)))
                if len(running) > 2 * threads:
                    yield from _read(*running.popleft())
            while running:
                yield from _read(*running.popleft())

    def _best(self, asked: Sequence[Ints], depth: int) -> NDArray[np.int64]:
        """``(q, depth)`` keys, best first."""
        index = self._postings
        keys = best(
            np.concatenate(asked),
            np.cumsum([len(terms) for terms in asked]),
            np.array([index.absent[terms].sum() for terms in asked], np.float32),
            index.starts,
            index.rows,
            index.scores,
            index.passages,
            depth,
        )
        return -np.sort(-keys, axis=1)

    def scores_of(self, query: str, rows: ArrayLike) -> Floats:
        """``(n,)`` scores of some rows for a query, whatever their rank, as bm25s has them.

        Where no term is shared: 0, or what bm25l and bm25+ give all passages.
        """
        wanted = np.asarray(rows, np.int32)
        index, terms = self._postings, self._postings.terms.of(query)
        scores = np.zeros(len(wanted), np.float32)
        for begin, end in zip(index.starts[terms], index.starts[terms + 1], strict=True):
            having = index.rows[begin:end]
            at = np.minimum(np.searchsorted(having, wanted), len(having) - 1)
            scores += np.where(having[at] == wanted, index.scores[begin:end][at], np.float32(0))
        scores += index.absent[terms].sum()
        return scores


def _made_now(corpus: Corpus, config: MiningConfig) -> Postings:
    with TemporaryDirectory(prefix="ragcun-bm25-") as scratch:
        build_index(Path(scratch), corpus, config, digest="", progress=Silent())
        return Postings.open(Path(scratch), config)


def _read(names: Sequence[str], found: Future[NDArray[np.int64]]) -> Iterator[QueryHits]:
    for name, keys in zip(names, found.result(), strict=True):
        yield QueryHits(name, *read_keys(keys[keys > 0]))
