"""Search the data sets of a run, keep the run files, and score them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragcun_cli.core.metrics import mean, metrics_to, score_queries
from ragcun_cli.core.ranking import Hits, merge
from ragcun_cli.pipeline.embedding_cache import open_cache
from ragcun_cli.pipeline.lexical import LexicalIndex
from ragcun_cli.pipeline.mine import open_index
from ragcun_cli.pipeline.models import ModelSource
from ragcun_cli.pipeline.progress import Progress, Silent
from ragcun_cli.pipeline.run_files import Ranking, ranking_of, read_run, write_run
from ragcun_cli.pipeline.search import CHUNK_PASSAGES, WHOLE, Search, Share, named_hits
from ragcun_cli.pipeline.test_sets import TestSet, read_test_sets
from ragcun_cli.spec.paths import METRICS as METRICS_FILE
from ragcun_cli.spec.paths import PER_QUERY, Workspace, run_file
from ragcun_cli.spec.profile import EvaluationConfig, MiningConfig


@dataclass(frozen=True)
class SearchJob:
    """The search of one data set with one model, as several processes can share it."""

    source: ModelSource
    dataset: str
    folder: Path
    config: EvaluationConfig
    state: Path
    """Folder for what an interrupted search has found."""
    query_scale: float = 1.0
    share: Share = WHOLE
    chunk: int = CHUNK_PASSAGES
    caches: Workspace | None = None
    """Keeps the embeddings of passages; None keeps none."""

    def on_rank(self, rank: int, world: int, progress: Progress | None = None) -> dict[str, Hits]:
        """Part of the data set -> what one of the processes that share the work finds."""
        found = {}
        for test in read_test_sets(self.dataset, self.folder):
            search = Search(
                self.source.load(),
                test,
                self.config,
                query_scale=self.query_scale,
                cache=None
                if self.caches is None
                else open_cache(self.source, test, self.config, self.caches),
                progress=progress or Silent(),
            )
            state = self.state / f"{test.file_stem}.rank-{rank + 1}-of-{world}.npz"
            share = self.share.part(rank, world)
            found[test.part] = search.run(share, state=state, chunk=self.chunk)
        return found


def merged(parts: Sequence[Mapping[str, Hits]], config: EvaluationConfig) -> dict[str, Hits]:
    """What several processes have found of the same data set, as one would have."""
    return {part: merge([found[part] for found in parts], k=config.depth + 1) for part in parts[0]}


def write_shard(file: Path, found: Mapping[str, Hits]) -> None:
    """Keep what one shard of a search found in each part of a data set."""
    arrays: dict[str, Any] = {}
    for part, hits in found.items():
        arrays |= {f"{part}:rows": hits.rows, f"{part}:scores": hits.scores}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def read_shard(file: Path) -> dict[str, Hits]:
    """What `write_shard` kept."""
    with np.load(file) as kept:
        parts = [name.removesuffix(":rows") for name in kept.files if name.endswith(":rows")]
        return {part: Hits(kept[f"{part}:rows"], kept[f"{part}:scores"]) for part in parts}


def write_dense_runs(
    found: Mapping[str, Hits],
    tests: Sequence[TestSet],
    folder: Path,
    *,
    config: EvaluationConfig,
    tag: str,
) -> None:
    """One run file for each part of a data set."""
    for test in tests:
        hits = named_hits(found[test.part], test.queries)
        ranking = ranking_of(hits, test.corpus, depth=config.depth)
        write_run(ranking, folder / run_file(test.file_stem), tag=tag)


def write_lexical_runs(
    tests: Sequence[TestSet],
    folder: Path,
    *,
    config: EvaluationConfig,
    mining: MiningConfig,
    workspace: Workspace,
    tag: str,
    progress: Progress,
) -> None:
    """One run file for each part of a data set, by BM25."""
    for test in tests:
        ranking = rank_lexical(test, config, mining, workspace=workspace, progress=progress)
        write_run(ranking, folder / run_file(test.file_stem), tag=tag)


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
    hits = index.search_batches(test.queries, depth=config.depth + 1)
    with progress.bar(f"{test.name} BM25", total=len(test.queries), unit="queries") as advance:
        ranking: Ranking = {}
        for one in hits:
            ranking |= ranking_of(iter([one]), test.corpus, depth=config.depth)
            advance(1)
    return ranking


def mean_ndcg(ranking: Ranking, test: TestSet) -> float:
    """nDCG@10 of a ranking, in [0, 1]."""
    return mean(ndcg_of(ranking, test).values())


def ndcg_of(ranking: Ranking, test: TestSet) -> dict[str, float]:
    """Query id -> nDCG@10, in [0, 1]."""
    return _scores(ranking, test, depth=10)["ndcg@10"]


def _scores(ranking: Ranking, test: TestSet, *, depth: int) -> dict[str, dict[str, float]]:
    ranked = {query: [passage for passage, _ in hits] for query, hits in ranking.items()}
    return score_queries(test.qrels, ranked, depth=depth)


def write_scores(
    tests: Sequence[TestSet], runs: Path, folder: Path, *, depth: int, settings: Mapping[str, Any]
) -> dict[str, float]:
    """Score run files, write the metrics and the per-query scores, and return the means.

    Of a data set of several parts the means are means over parts.

    Args:
        tests: the parts of a data set.
        runs: holds the folder of run files.
        folder: to write into.
        depth: of the rankings.
        settings: how the passages were encoded and ranked, kept beside the scores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = metrics_to(depth)
    parts: dict[str, dict[str, float]] = {}
    with (folder / PER_QUERY).open("w", encoding="utf-8", newline="\n") as stream:
        for test in tests:
            scores = _scores(read_run(runs / run_file(test.file_stem)), test, depth=depth)
            parts[test.part] = {metric: mean(scores[metric].values()) for metric in metrics}
            mark = {"part": test.part} if test.part else {}
            for query in sorted(test.qrels):
                row = {"query": query, **mark, **{m: scores[m][query] for m in metrics}}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    means = {metric: mean(part[metric] for part in parts.values()) for metric in metrics}
    content = {
        "dataset": tests[0].name.partition("/")[0],
        "queries": sum(len(test.qrels) for test in tests),
        "passages": sum(len(test.corpus) for test in tests),
        "metrics": means,
        "settings": dict(settings),
        **({"parts": parts} if len(parts) > 1 else {}),
    }
    (folder / METRICS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return means
