"""What several models find for one query, side by side, and what is judged for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ragcun_cli.pipeline.data.sets.corpus import Corpus

HITS = 10
"""Passages that are shown of each ranking."""


@dataclass(frozen=True)
class SeenPassage:
    """A passage to look at: one that a model found, or one that is judged."""

    passage: str
    score: float | None
    """By the model that it is a hit of; None of one that is only judged."""
    text: str | None
    """None where it is judged and the corpus does not have it."""
    grade: int | None
    """As it is judged for the query, relevant from 1 on; None where it is not."""
    ranks: Mapping[str, int | None]
    """Label of each model -> its place there, from 1; None where it is not in that ranking."""


@dataclass(frozen=True)
class Looked:
    """One query with what each model ranks on top."""

    text: str
    hits: Mapping[str, Sequence[SeenPassage]]
    """Label of a model -> its ``HITS`` best passages, best first."""
    judged: Sequence[SeenPassage]
    """The highest grades first, of one grade what a model ranks highest, of one rank the lesser id;
    none of a query that is not the data set's."""
    query: str | None = None
    """Its id, with the part of the data set in front where there are several; None if typed."""
    ndcg: Mapping[str, float] | None = None
    """nDCG@10 in [0, 1] by label; None if typed."""
    shared: int | None = None
    """Passages that two models both have among their ``HITS`` best; None if typed."""

    @property
    def relevant(self) -> list[SeenPassage]:
        """The judged ones with a grade above 0."""
        return [one for one in self.judged if (one.grade or 0) > 0]


def looked_at(
    text: str,
    corpus: Corpus,
    rankings: Mapping[str, Sequence[tuple[str, float]]],
    grades: Mapping[str, int],
    **more: Any,  # noqa: ANN401 - the fields of a query of the data set
) -> Looked:
    """Put the rankings of one query side by side.

    Args:
        text: of the query.
        corpus: that was searched.
        rankings: label of a model -> passage ids and scores, best first.
        grades: passage id -> grade, of what is judged for the query.
        more: further fields of `Looked`.
    """
    places = {
        label: {passage: rank for rank, (passage, _) in enumerate(hits, 1)}
        for label, hits in rankings.items()
    }
    shown = {passage for hits in rankings.values() for passage, _ in hits[:HITS]}
    names = sorted(shown | grades.keys())
    there = [n for n, row in zip(names, corpus.rows_of(names), strict=True) if row >= 0]
    texts = dict(zip(there, corpus.texts_by_id(there), strict=True))

    def seen(name: str, score: float | None = None) -> SeenPassage:
        ranks = {label: own.get(name) for label, own in places.items()}
        return SeenPassage(name, score, texts.get(name), grades.get(name), ranks)

    def order(one: SeenPassage) -> tuple[int, float, str]:
        best = min((rank for rank in one.ranks.values() if rank), default=inf)
        return -grades[one.passage], best, one.passage

    return Looked(
        text=text,
        hits={label: [seen(*hit) for hit in hits[:HITS]] for label, hits in rankings.items()},
        judged=sorted(map(seen, grades), key=order),
        **more,
    )
