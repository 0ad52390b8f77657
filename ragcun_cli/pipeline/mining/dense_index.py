"""Exact search with a model, as a source of candidates for hard negatives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ragcun_cli.core.search.ranking import ExactTopK, Hits, exact_scores
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.stored import store_embeddings
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.mining.rescoring import DenseScores
from ragcun_cli.pipeline.search.hits import QueryHits
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.manifest import replaced

QUERIES_AT_ONCE = 65_536
"""Searched in one reading of the passages' embeddings, in about a gigabyte at 768 dimensions."""

PASSAGES_AT_ONCE = 8192


class DenseIndex:
    """Embeddings of all passages of a corpus, for the searches of one mining."""

    def __init__(
        self, scorer: DenseScores, corpus: Corpus, *, folder: Path, progress: Progress
    ) -> None:
        """Encode the passages, unless the folder holds them.

        Args:
            scorer: has the model.
            corpus: to search.
            folder: keeps embeddings (4 bytes a dimension, for each passage and query) and hits (16
                bytes each) of this very mining.
            progress: is told.
        """
        folder.mkdir(exist_ok=True)
        encode = partial(scorer.embeddings, side="document")
        self.scorer, self.folder, self.progress = scorer, folder, progress
        self.passages = store_embeddings(
            folder / "passages.npy", corpus.texts, encode, label="encode", progress=progress
        )


class DenseSearch:
    """The best passages of each query by a model's own similarity.

    Queries are searched in groups when their turn comes, each in one reading of the passages'
    embeddings, so that memory grows with neither. What was found stays in the index's folder, and a
    stop loses a group at most. Groups move no result.
    """

    def __init__(
        self, index: DenseIndex, queries: Mapping[str, str], *, depth: int, name: str
    ) -> None:
        """Encode the queries, unless the index's folder holds them.

        Args:
            index: of the passages.
            queries: query id -> text; all of a split, as others would move batches.
            depth: how many passages to look for.
            name: of the split, for files.
        """
        self._index, self._depth, self._name = index, depth, name
        self._queries = list(queries)
        texts = list(queries.values())
        order = np.argsort([-len(text) for text in texts], kind="stable")  # as `encode` batches
        self._rows = order.argsort()
        ordered = [texts[at] for at in order]
        self._row_of = {text: row for row, text in enumerate(ordered)}
        self._embeddings = store_embeddings(
            index.folder / f"{name}-queries.npy",
            ordered,
            partial(index.scorer.embeddings, side="query"),
            label="encode queries",
            progress=index.progress,
        )

    def hits_from(self, first: int) -> Iterator[QueryHits]:
        """The best passages of all queries but the ``first`` ones, in the order of the queries.

        Equal scores stand in order of passage id.

        Raises:
            EncoderError: an embedding that cannot be compared.
        """
        begun = first // QUERIES_AT_ONCE * QUERIES_AT_ONCE
        for start in range(begun, len(self._queries), QUERIES_AT_ONCE):
            group = self._queries[start : start + QUERIES_AT_ONCE]
            stop = start + len(group)
            file = self._index.folder / f"{self._name}-hits-{start}-{stop}.npz"
            if not file.is_file():
                hits = self._search(self._embeddings[self._rows[start:stop]])
                with replaced(file) as stream:
                    np.savez(stream, rows=hits.rows, scores=hits.scores)
            with np.load(file) as kept:
                rows, scores = kept["rows"], kept["scores"]
            for at in range(max(first - start, 0), len(group)):
                yield QueryHits(group[at], rows[at], scores[at])

    def _search(self, embeddings: NDArray[np.float32]) -> Hits:
        scorer, passages = self._index.scorer, self._index.passages
        asked = torch.from_numpy(embeddings)
        bar = self._index.progress.bar("search", total=len(passages), unit="passages")
        try:
            search = ExactTopK(
                asked.to(scorer.model.device), k=self._depth, similarity=scorer.similarity
            )
            with bar as advance:
                for start in range(0, len(passages), PASSAGES_AT_ONCE):
                    block = np.array(passages[start : start + PASSAGES_AT_ONCE])
                    search.add(torch.from_numpy(block), first_row=start)
                    advance(len(block))
        except ValueError as error:
            raise EncoderError(f"mining.dense_model: {error}") from error
        return search.hits()

    def scores_of(self, query: str, rows: ArrayLike) -> NDArray[np.float64]:
        """``(n,)`` scores of some rows for a query, whatever their rank; by its text."""
        found = torch.from_numpy(self._index.passages[np.asarray(rows, np.int64)]).double()
        asked = torch.from_numpy(np.array(self._embeddings[self._row_of[query]])).double()
        similarity = self._index.scorer.similarity
        return exact_scores(asked.expand(len(found), -1), found, similarity=similarity).numpy()
