"""Exact search with a model, as a source of candidates for hard negatives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragcun_cli.core.ranking import ExactTopK
from ragcun_cli.pipeline.data.corpus import Corpus
from ragcun_cli.pipeline.hits import QueryHits
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.rescoring import DenseScores

PASSAGES_AT_ONCE = 8192


class DenseSearch:
    """The best passages of each query by a model's own similarity.

    The corpus is read once, a block at a time, for all queries together: memory grows with the
    queries (16 bytes a hit and 12 a dimension), not with the corpus. What is found is kept in a
    file, so that a second start goes on without another reading.
    """

    def __init__(
        self,
        scorer: DenseScores,
        corpus: Corpus,
        queries: Mapping[str, str],
        *,
        depth: int,
        file: Path,
        progress: Progress,
    ) -> None:
        """Look up all these queries, unless the file holds what was found.

        Args:
            scorer: has the model.
            corpus: to search.
            queries: query id -> text; all of a mining, as others would move batches.
            depth: how many passages to look for.
            file: an `.npz`, of this very search.
            progress: is told.
        """
        self._scorer, self._corpus = scorer, corpus
        self._places = {query: place for place, query in enumerate(queries)}
        if not file.is_file():
            self._search(list(queries.values()), depth, file, progress)
        with np.load(file) as kept:
            self._rows, self._scores = kept["rows"], kept["scores"]

    def _search(self, queries: list[str], depth: int, file: Path, progress: Progress) -> None:
        asked = self._scorer.embeddings(queries, "query").to(self._scorer.model.device)
        search = ExactTopK(asked, k=depth, similarity=self._scorer.similarity)
        texts = self._corpus.texts
        with progress.bar("search", total=len(texts), unit="passages") as advance:
            for start in range(0, len(texts), PASSAGES_AT_ONCE):
                block = texts[start : start + PASSAGES_AT_ONCE]
                search.add(self._scorer.embeddings(block, "document"), first_row=start)
                advance(len(block))
        hits = search.hits()
        scratch = file.with_name(f".{file.name}")
        with scratch.open("wb") as stream:
            np.savez(stream, rows=hits.rows, scores=hits.scores)
        scratch.replace(file)

    def hits_of(self, queries: Iterable[str]) -> Iterator[QueryHits]:
        """The best passages of some of the queries; equal scores stand in order of passage id."""
        for query in queries:
            place = self._places[query]
            yield QueryHits(query, self._rows[place], self._scores[place])

    def scores_of(self, query: str, rows: ArrayLike) -> NDArray[np.float64]:
        """``(n,)`` scores of some rows for a query, whatever their rank."""
        return self._scorer.scores(query, self._corpus.texts_of(np.asarray(rows, np.int64)))
