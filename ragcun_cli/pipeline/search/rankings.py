"""Rankings, their TREC run files (`query Q0 passage rank score tag`, ranks from 1) and scores."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ragcun_cli.core.rankings.fusion import fused_ranking
from ragcun_cli.core.rankings.metrics import mean, score_queries
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.search.hits import QueryHits
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.spec.errors import WorkspaceError

Ranking = dict[str, list[tuple[str, float]]]
"""Query id -> passage ids and scores, best first."""

_LEVEL = 3
"""Of compression: a seventh of the text's bytes, at some 180 MB of text a second."""

_MAGNITUDE = 0x7FFFFFFF
"""The bits of a single but its sign."""

QueryScores = dict[str, dict[str, float]]
"""Metric -> query id -> value."""


def ranking_of(hits: Iterator[QueryHits], corpus: Corpus, *, depth: int) -> Ranking:
    """The best passages by id; a query's namesake is left out, as beir leaves it out."""
    ranking: Ranking = {}
    for query, rows, scores in hits:
        pairs = zip(corpus.ids_of(rows), map(float, scores), strict=True)
        ranking[query] = [pair for pair in pairs if pair[0] != query][:depth]
    return ranking


def fused(first: Ranking, second: Ranking, *, depth: int) -> Ranking:
    """Reciprocal-rank fusion of two rankings; a query that one of them lacks is the other's."""
    found: Ranking = {}
    for query in first.keys() | second.keys():
        ids = ([name for name, _ in one.get(query, [])] for one in (first, second))
        found[query] = fused_ranking(*ids)[:depth]
    return found


def write_run(ranking: Ranking, file: Path, *, tag: str) -> None:
    """Queries in order of id, scores to nine digits, each below the one before it; gzipped.

    Without a name or a time in its header, so that the bytes are those of the ranking.

    trec_eval, and what is built on it, ignores the rank, reads scores in single precision and puts
    equal ones in falling order of id. Where a score would not be told from the one before, it is
    written as the next number below that, so that the order of lines is the order of any reader.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed,
    ):
        for query in sorted(ranking):
            scores = _falling([score for _, score in ranking[query]])
            hits = zip(ranking[query], scores, strict=True)
            lines = [
                f"{query} Q0 {passage} {rank} {score} {tag}\n"
                for rank, ((passage, _), score) in enumerate(hits, 1)
            ]
            packed.write("".join(lines).encode())


def _falling(scores: Sequence[float]) -> list[str]:
    texts = [f"{score:.9g}" for score in scores]
    singles = np.array(texts, np.float64).astype(np.float32)
    bits = singles.view(np.int32).astype(np.int64)
    steps = np.where(bits < 0, -(bits & _MAGNITUDE), bits)  # neighbours differ by 1
    places = np.arange(len(steps))
    steps = np.minimum.accumulate(steps + places) - places
    falling = np.copysign(np.abs(steps).astype(np.int32).view(np.float32), steps)
    for at in np.flatnonzero(falling != singles):
        texts[at] = f"{falling[at]:.9g}"
    return texts


def read_run(file: Path) -> Ranking:
    """The ranking of a run file of ours: the order of its lines is the order of its ranks.

    Earlier versions wrote plain text, without ``.gz`` at the end of its name.

    Raises:
        WorkspaceError: it is cut short, or no such file.
    """
    ranking: Ranking = {}
    number, plain = 0, file.with_suffix("")
    file, opened = (file, gzip.open) if file.is_file() else (plain, open)
    hint = f"rm {file}; its search runs again"
    try:
        with opened(file, "rt", encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                fields: Sequence[str] = line.removesuffix("\n").split(" ")
                if len(fields) != 6:
                    raise WorkspaceError(
                        f"{file}, line {number}: not `query Q0 passage rank score tag`", hint=hint
                    )
                ranking.setdefault(fields[0], []).append((fields[2], float(fields[4])))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WorkspaceError(f"{file}, after line {number}: {error}", hint=hint) from error
    return ranking


def mean_ndcg(ranking: Ranking, test: JudgedSet) -> float:
    """nDCG@10 of a ranking, in [0, 1]."""
    return mean(score_ranking(ranking, test, depth=10)["ndcg@10"].values())


def score_ranking(ranking: Ranking, test: JudgedSet, *, depth: int) -> QueryScores:
    """All metrics of each judged query."""
    ranked = {query: [passage for passage, _ in hits] for query, hits in ranking.items()}
    return score_queries(test.qrels, ranked, depth=depth)
