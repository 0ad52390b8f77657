"""Rank the passages of one data set for its judged queries, and score the ranking."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.metrics import METRICS, mean, score_queries
from ragcun_cli.core.ranking import ExactTopK
from ragcun_cli.pipeline.data import beir
from ragcun_cli.pipeline.data.corpus import Corpus
from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.encode import encode
from ragcun_cli.pipeline.lexical import LexicalIndex
from ragcun_cli.pipeline.mine import open_index
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import METRICS as METRICS_FILE
from ragcun_cli.spec.paths import PER_QUERY, TREC_RUN, Workspace
from ragcun_cli.spec.profile import EvaluationConfig, MiningConfig

PASSAGES_AT_ONCE = 8192

Ranking = dict[str, list[tuple[str, float]]]
"""Query id -> passage ids and scores, best first."""


@dataclass(frozen=True)
class TestSet:
    """The judged queries of one split, and the passages they are searched in."""

    name: str
    corpus: Corpus
    queries: Mapping[str, str]
    qrels: beir.Qrels
    folder: Path | None = None
    """Where it is stored."""

    @property
    def part(self) -> str:
        """Which part of its data set it is; nothing where it is the whole."""
        return self.name.partition("/")[2]


def read_test_set(name: str, folder: Path, *, split: str | None = None) -> TestSet:
    """The split that results tables show, or another.

    Raises:
        DataError: a file is malformed, or a judged query has no text.
    """
    qrels = beir.read_qrels(folder, split or reported_split(name))
    texts = beir.read_queries(folder)
    missing = [query for query in qrels if query not in texts]
    if missing:
        raise DataError(f"{folder}: judged queries without text: {', '.join(missing[:5])}")
    asked = {query: texts[query] for query in qrels}
    return TestSet(name, Corpus.open(folder), asked, qrels, folder)


def read_test_sets(name: str, folder: Path) -> list[TestSet]:
    """The sets that a data set consists of, each searched by itself: one, but CQADupStack's 12.

    Raises:
        DataError: as `read_test_set`.
    """
    parts = beir.parts(folder)
    names = [name] if parts == [folder] else [f"{name}/{part.name}" for part in parts]
    split = reported_split(name)
    return [read_test_set(*pair, split=split) for pair in zip(names, parts, strict=True)]


def rank_dense(
    model: SentenceTransformer, test: TestSet, config: EvaluationConfig, *, progress: Progress
) -> Ranking:
    """Exact ranking by the model's own similarity; a query's namesake passage is left out."""
    names = list(test.queries)
    queries = encode(
        model,
        [test.queries[name] for name in names],
        side="query",
        batch_size=config.batch_size,
        precision=config.precision,
        label=f"{test.name} queries",
        progress=progress,
    )
    search = ExactTopK(queries, k=config.depth + 1, similarity=model.similarity_fn_name)
    corpus = test.corpus
    for start in range(0, len(corpus), PASSAGES_AT_ONCE):
        block = corpus.texts[start : start + PASSAGES_AT_ONCE]
        passages = encode(
            model,
            block,
            side="document",
            batch_size=config.batch_size,
            precision=config.precision,
            label=f"{test.name} passages",
            progress=progress,
        )
        search.add(passages, first_row=start)
    hits = search.hits()
    return {
        name: _named(name, rows, scores, corpus, config.depth)
        for name, rows, scores in zip(names, hits.rows, hits.scores, strict=True)
    }


def _named(
    query: str, rows: np.ndarray, scores: np.ndarray, corpus: Corpus, depth: int
) -> list[tuple[str, float]]:
    pairs = ((corpus.ids[row], float(score)) for row, score in zip(rows, scores, strict=True))
    return [(passage, score) for passage, score in pairs if passage != query][:depth]


def rank_lexical(
    test: TestSet,
    config: EvaluationConfig,
    mining: MiningConfig,
    *,
    workspace: Workspace,
    progress: Progress,
) -> Ranking:
    """BM25 ranking; passages that share no term with a query are not ranked."""
    index = (
        LexicalIndex(test.corpus, mining)
        if test.folder is None
        else open_index(test.folder, test.corpus, mining, workspace=workspace, progress=progress)
    )
    found = index.search(test.queries, depth=config.depth + 1, progress=progress)
    return {
        query: [(passage, score) for passage, score in hits if passage != query][: config.depth]
        for query, hits in found.items()
    }


def mean_ndcg(ranking: Ranking, test: TestSet) -> float:
    """nDCG@10 of a ranking, in [0, 1]."""
    return mean(_scores(ranking, test)["ndcg@10"].values())


def _scores(ranking: Ranking, test: TestSet) -> dict[str, dict[str, float]]:
    ranked = {query: [passage for passage, _ in hits] for query, hits in ranking.items()}
    return score_queries(test.qrels, ranked)


def write_scores(
    tests: Sequence[TestSet], rank: Callable[[TestSet], Ranking], folder: Path, *, tag: str
) -> dict[str, Any]:
    """Rank, and write the metrics, the per-query scores and the TREC runs; return the means.

    Of a data set of several parts each part has its own run, and the means are means over parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, dict[str, float]] = {}
    with (folder / PER_QUERY).open("w", encoding="utf-8", newline="\n") as stream:
        for test in tests:
            ranking = rank(test)
            scores = _scores(ranking, test)
            parts[test.part] = {metric: mean(scores[metric].values()) for metric in METRICS}
            mark = {"part": test.part} if test.part else {}
            for query in sorted(test.qrels):
                row = {"query": query, **mark, **{m: scores[m][query] for m in METRICS}}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            _write_run(ranking, folder / test.part / TREC_RUN, tag=tag)
    means = {metric: mean(part[metric] for part in parts.values()) for metric in METRICS}
    content = {
        "dataset": tests[0].name.partition("/")[0],
        "queries": sum(len(test.qrels) for test in tests),
        "passages": sum(len(test.corpus) for test in tests),
        "metrics": means,
        **({"parts": parts} if len(parts) > 1 else {}),
    }
    (folder / METRICS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return means


def _write_run(ranking: Ranking, file: Path, *, tag: str) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for query in sorted(ranking):
            for rank, (passage, score) in enumerate(ranking[query], 1):
                stream.write(f"{query} Q0 {passage} {rank} {score:.9g} {tag}\n")
