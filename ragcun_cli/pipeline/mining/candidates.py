"""Which hits of one query may be its hard negatives, and how many each rule leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ragcun_cli.core.jaccard import word_overlap
from ragcun_cli.pipeline.data.sets.beir import words
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.search.hits import QueryHits, Scorer, Scores
from ragcun_cli.spec.mining_config import MiningConfig

SAME_SCORE = 1e-5
"""Relative: passages of the same words have the same BM25 score, so that only texts of hits with
the score of a relevant passage have to be compared."""

COUNTED = {"score_ratio": 0.95, "near_duplicate": 0.9}
"""Rule that is off -> threshold at which the closing table says what it would leave out: TopK-
PercPos of NV-Retriever (arXiv:2407.15831), and nine words of ten."""


@dataclass(frozen=True)
class Relevant:
    """The relevant passages of one query."""

    ids: tuple[str, ...]
    """In order."""
    rows: np.ndarray
    texts: tuple[str, ...]

    @classmethod
    def of(cls, judged: Mapping[str, int], corpus: Corpus) -> Relevant:
        """Those with a grade above 0."""
        ids = tuple(sorted(passage for passage, grade in judged.items() if grade > 0))
        rows = corpus.rows_of(ids)
        return cls(ids, rows, tuple(corpus.texts_of(rows)))

    @cached_property
    def words(self) -> frozenset[str]:
        """What their texts are without case, punctuation and spacing."""
        return frozenset(map(words, self.texts))


class Candidates:
    """The hits of one query that no rule leaves out, best first."""

    def __init__(
        self,
        source: Scores,
        corpus: Corpus,
        query: str,
        hits: QueryHits,
        relevant: Relevant,
        positive: str,
        config: MiningConfig,
        scorer: Scorer | None = None,
        *,
        count_near: bool = False,
    ) -> None:
        """Those of one query; ``count_near`` says how many are near duplicates if none go."""
        self._source = source
        self._corpus = corpus
        self._query = query
        self._hits = hits
        self._relevant = relevant
        self._config = config
        self._count_near = count_near
        self._place = relevant.ids.index(positive)
        self.dropped: Counter[str] = Counter()
        self.would_drop: dict[str, int] = {}
        self._kept = self._keep()[: config.depth]
        if scorer is not None:
            self._kept = self._drop("rescore", self._kept, self._too_close(self._kept, scorer))
        self.ids = corpus.ids_of(hits.rows[self._kept])

    @cached_property
    def _scores(self) -> np.ndarray:
        """Of the relevant passages, as hits are scored."""
        return self._source.scores_of(self._query, self._relevant.rows)

    def _keep(self) -> list[int]:
        """Places among the hits of those that stay."""
        relevant = np.flatnonzero(np.isin(self._hits.rows, self._relevant.rows))
        left = self._drop("relevant", range(len(self._hits.rows)), set(relevant.tolist()))
        left = self._drop("same_text", left, self._twins(left))
        ratio, near = self._config.max_score_ratio, self._config.near_duplicate
        if ratio is not None:
            left = self._drop("score_ratio", left, self._too_good(left, ratio))
        elif self._config.candidates == "bm25":
            found = self._too_good(left, COUNTED["score_ratio"])
            self.would_drop["score_ratio"] = len(found)
        if near is not None:
            left = self._drop("near_duplicate", left, self._near(left, near))
        elif self._count_near:
            found = self._near(left, COUNTED["near_duplicate"])
            self.would_drop["near_duplicate"] = len(found)
        return left

    def _drop(self, rule: str, left: Sequence[int], out: set[int]) -> list[int]:
        self.dropped[rule] = len(out)
        return [at for at in left if at not in out]

    def _twins(self, left: Sequence[int]) -> set[int]:
        """Those with the words of a relevant passage."""
        if self._config.candidates == "dense":  # reading texts is cheaper than encoding them
            return self._with_words_of_relevant(left)
        scores = self._hits.scores[left]
        alike = np.isclose(scores[:, None], self._scores, rtol=SAME_SCORE, atol=0).any(axis=1)
        if not alike.any():
            return set()
        return self._with_words_of_relevant(np.asarray(left)[alike].tolist())

    def _with_words_of_relevant(self, like: Sequence[int]) -> set[int]:
        texts = self._corpus.texts_of(self._hits.rows[list(like)])
        return {
            at for at, text in zip(like, texts, strict=True) if words(text) in self._relevant.words
        }

    def _too_good(self, left: Sequence[int], ratio: float) -> set[int]:
        """Those that score nearly as the positive does, or better; none where it scores 0."""
        positive = self._scores[self._place]
        if not positive > 0:
            return set()
        places = np.asarray(left, np.int64)
        return set(places[self._hits.scores[places] >= ratio * positive].tolist())

    def _near(self, left: Sequence[int], overlap: float) -> set[int]:
        """Those that share so much of their words with a relevant passage."""
        texts = self._corpus.texts_of(self._hits.rows[list(left)])
        return {
            at
            for at, text in zip(left, texts, strict=True)
            if any(word_overlap(words(text), other) >= overlap for other in self._relevant.words)
        }

    def _too_close(self, left: Sequence[int], scorer: Scorer) -> set[int]:
        """Those that another model scores above the positive's score less the margin."""
        if not left:
            return set()
        texts = self._corpus.texts_of(self._hits.rows[list(left)])
        positive, *scores = scorer.scores(
            self._query, [self._relevant.texts[self._place], *texts]
        ).tolist()
        bound = positive - self._config.rescore_margin
        return {at for at, score in zip(left, scores, strict=True) if score > bound}

    def is_twin(self, passage: str) -> bool:
        """Whether any passage has the words of a relevant one."""
        return words(self._corpus.texts_by_id([passage])[0]) in self._relevant.words

    def facts(self, hard: Sequence[str], random: Sequence[str]) -> dict[str, Any]:
        """What the closing table is made of."""
        row = self._relevant.rows[self._place]
        rank = np.flatnonzero(self._hits.rows == row)
        rows = [row, *self._corpus.rows_of([*hard, *random])]
        positive, *scores = (
            round(float(score), 4) for score in self._source.scores_of(self._query, rows)
        )
        return {
            "query": self._hits.query,
            "hits": len(self._hits.rows),
            "candidates": len(self._kept),
            "dropped": dict(self.dropped),
            "would_drop": self.would_drop,
            "rank": int(rank[0]) + 1 if len(rank) else None,
            "positive": positive,
            "hard": scores[: len(hard)],
            "random": scores[len(hard) :],
        }
