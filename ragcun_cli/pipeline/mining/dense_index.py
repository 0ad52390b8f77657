"""Exact search with a model, as a source of candidates for hard negatives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.search.ranking import Hits, exact_scores
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, TEXTS_AT_ONCE, encode_block
from ragcun_cli.pipeline.encoders.kept import EmbeddingCache, refuse_a_full_disk
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.dense import PLAIN, WHOLE, Search, named_hits, own_similarity
from ragcun_cli.pipeline.search.hits import QueryHits
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.measuring_config import EvaluationConfig

GROUP_QUERIES = 65_536
"""Searched in one reading of the passages' embeddings, in about a gigabyte at 768 dimensions."""


class DenseSearch:
    """The best passages of each query by a model's own similarity.

    Queries are searched in groups when their turn comes, each in one reading of the passages'
    embeddings, so that memory grows with neither. What was found stays in the folder, and a stop
    loses a group at most. Groups move no result.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        corpus: Corpus,
        queries: Mapping[str, str],
        *,
        depth: int,
        folder: Path,
        name: str,
        progress: Progress,
    ) -> None:
        """Encode the queries, unless the folder holds them.

        Args:
            model: to search with.
            corpus: to search.
            queries: query id -> text; all of a split, as others would move batches.
            depth: how many passages to look for.
            folder: keeps embeddings (4 bytes a dimension, for each passage and query) and hits (16
                bytes each) of this very mining.
            name: of the split, for files.
            progress: is told.

        Raises:
            WorkspaceError: the disk has no room for the embeddings.
        """
        folder.mkdir(exist_ok=True)
        width, texts = model.get_embedding_dimension(), len(corpus) + len(queries)
        refuse_a_full_disk(folder, texts, dimensions=width, progress=progress)
        self._model, self._corpus, self._queries = model, corpus, queries
        self._depth, self._folder, self._name, self._progress = depth, folder, name, progress
        self._similarity = own_similarity(model, hint="save it with similarity_fn_name='cosine'")
        self._passages = EmbeddingCache(folder / "passages")
        self._asked = EmbeddingCache(folder / f"{name}-queries")
        ordered = sorted(queries, key=lambda query: len(queries[query]), reverse=True)
        self._row_of = {query: row for row, query in enumerate(ordered)}
        self._row_of_text = {queries[query]: row for query, row in self._row_of.items()}
        self._encode([queries[query] for query in ordered])

    def _encode(self, texts: Sequence[str]) -> None:
        label = f"{self._name} queries"
        with self._progress.bar(label, total=len(texts), unit="texts") as advance:
            for rows in WHOLE.blocks(len(texts), TEXTS_AT_ONCE):
                if self._asked.read(rows) is None:
                    block = texts[rows.start : rows.stop]
                    found = encode_block(self._model, block, side="query", batch_size=BATCH_TEXTS)
                    self._asked.write(rows, found)
                advance(len(rows))

    def hits_from(self, first: int) -> Iterator[QueryHits]:
        """The best passages of all queries but the ``first`` ones, in the order of the queries.

        Equal scores stand in order of passage id.

        Raises:
            EncoderError: an embedding that cannot be compared.
        """
        names = list(self._queries)
        begun = first // GROUP_QUERIES * GROUP_QUERIES
        for start in range(begun, len(names), GROUP_QUERIES):
            group = names[start : start + GROUP_QUERIES]
            try:
                hits = self._search(group, f"{self._name}-hits-{start}-{start + len(group)}.npz")
            except EncoderError as error:
                raise EncoderError(f"mining.dense_model: {error}") from error
            yield from islice(named_hits(hits, group), max(first - start, 0), None)

    def _search(self, group: Sequence[str], file: str) -> Hits:
        config = EvaluationConfig.model_construct(  # which a depth of mining may be too small for
            depth=self._depth - 1, block_passages=TEXTS_AT_ONCE, batch_size=BATCH_TEXTS
        )
        search = Search(
            self._model,
            JudgedSet(
                self._name, self._corpus, {query: self._queries[query] for query in group}, {}
            ),
            config,
            queries=self._asked.take(self._row_of[query] for query in group),
            cache=self._passages,
            progress=self._progress,
        )
        return search.run(state=self._folder / file, chunk=len(self._corpus))[PLAIN]

    def scores_of(self, query: str, rows: ArrayLike) -> NDArray[np.float64]:
        """``(n,)`` scores of some rows for a query, whatever their rank; by its text."""
        found = self._passages.take(np.asarray(rows, np.int64)).double()
        asked = self._asked.take([self._row_of_text[query]]).double()
        return exact_scores(
            asked.expand(len(found), -1), found, similarity=self._similarity
        ).numpy()
