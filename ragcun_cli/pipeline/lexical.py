"""BM25, as a source of hard negatives and as a row of the results table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bm25s
import numpy as np
import Stemmer

from ragcun_cli.pipeline.data.corpus import Corpus
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.spec.profile import MiningConfig

QUERIES_AT_ONCE = 512


class LexicalIndex:
    """BM25 over one corpus."""

    def __init__(self, corpus: Corpus, config: MiningConfig) -> None:
        self._ids = corpus.ids
        self._stemmer = None if config.stemmer == "none" else Stemmer.Stemmer(config.stemmer)
        self._stopwords = "en" if config.stopwords == "english" else []
        self._bm25 = bm25s.BM25(method=config.method, k1=config.k1, b=config.b)
        self._bm25.index(self._tokens(corpus.texts), show_progress=False)

    def _tokens(self, texts: Sequence[str]) -> Any:  # noqa: ANN401
        return bm25s.tokenize(
            list(texts), stopwords=self._stopwords, stemmer=self._stemmer, show_progress=False
        )

    def search(
        self, queries: Mapping[str, str], *, depth: int, progress: Progress
    ) -> dict[str, list[tuple[str, float]]]:
        """The best passages of each query and their scores, best first.

        Passages that share no term with the query are no hits. Equal scores are ordered by passage
        id, also at the cut.
        """
        hits: dict[str, list[tuple[str, float]]] = {}
        names = list(queries)
        with progress.bar("BM25", total=len(names), unit="queries") as advance:
            for start in range(0, len(names), QUERIES_AT_ONCE):
                block = names[start : start + QUERIES_AT_ONCE]
                tokens = bm25s.tokenize(
                    [queries[name] for name in block],
                    stopwords=self._stopwords,
                    stemmer=self._stemmer,
                    return_ids=False,
                    show_progress=False,
                )
                for name, words in zip(block, tokens, strict=True):
                    hits[name] = self._best(words, depth)
                advance(len(block))
        return hits

    def _best(self, words: list[str], depth: int) -> list[tuple[str, float]]:
        scores = self._bm25.get_scores(words) if words else np.zeros(len(self._ids))
        rows = np.flatnonzero(scores > 0)
        if len(rows) > depth:
            cut = np.partition(scores[rows], len(rows) - depth)[len(rows) - depth]
            rows = rows[scores[rows] >= cut]
        # Rows are in id order, and the sort is stable: ties stay in it.
        best = rows[np.argsort(-scores[rows], kind="stable")][:depth]
        return [(self._ids[row], float(scores[row])) for row in best]
