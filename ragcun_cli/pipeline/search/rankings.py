"""Rankings, their TREC run files (`query Q0 passage rank score tag`, ranks from 1) and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ragcun_cli.core.rankings.metrics import mean, score_queries
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.search.hits import QueryHits
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.spec.errors import WorkspaceError

Ranking = dict[str, list[tuple[str, float]]]
"""Query id -> passage ids and scores, best first."""

QueryScores = dict[str, dict[str, float]]
"""Metric -> query id -> value."""


def ranking_of(hits: Iterator[QueryHits], corpus: Corpus, *, depth: int) -> Ranking:
    """The best passages by id; a query's namesake is left out, as beir leaves it out."""
    ranking: Ranking = {}
    for query, rows, scores in hits:
        pairs = zip(corpus.ids_of(rows), map(float, scores), strict=True)
        ranking[query] = [pair for pair in pairs if pair[0] != query][:depth]
    return ranking


def write_run(ranking: Ranking, file: Path, *, tag: str) -> None:
    """Queries in order of id, scores to nine digits; only ids without ASCII spaces survive it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for query in sorted(ranking):
            for rank, (passage, score) in enumerate(ranking[query], 1):
                stream.write(f"{query} Q0 {passage} {rank} {score:.9g} {tag}\n")


def read_run(file: Path) -> Ranking:
    """The ranking of a run file of ours: the order of its lines is the order of its ranks.

    Raises:
        WorkspaceError: it is cut short, or no such file.
    """
    ranking: Ranking = {}
    with file.open(encoding="utf-8", newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            fields: Sequence[str] = line.removesuffix("\n").split(" ")
            if len(fields) != 6:
                raise WorkspaceError(
                    f"{file}, line {number}: not `query Q0 passage rank score tag`",
                    hint=f"rm {file}; its search runs again",
                )
            ranking.setdefault(fields[0], []).append((fields[2], float(fields[4])))
    return ranking


def mean_ndcg(ranking: Ranking, test: JudgedSet) -> float:
    """nDCG@10 of a ranking, in [0, 1]."""
    return mean(score_ranking(ranking, test, depth=10)["ndcg@10"].values())


def score_ranking(ranking: Ranking, test: JudgedSet, *, depth: int) -> QueryScores:
    """All metrics of each judged query."""
    ranked = {query: [passage for passage, _ in hits] for query, hits in ranking.items()}
    return score_queries(test.qrels, ranked, depth=depth)
