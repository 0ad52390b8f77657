"""Rank the passages of a judged set by BM25."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from ragcun_cli.core.folders import is_writable
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.lexical.index import open_or_build, recipe
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.pipeline.search.rankings import Ranking, ranking_of
from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace

TIMED_QUERIES = 256


def open_index(
    dataset: Path,
    corpus: Corpus,
    mining: MiningConfig,
    *,
    workspace: Workspace,
    progress: Progress,
) -> LexicalIndex:
    """The BM25 index of a data set, from the workspace's cache, where it is made if need be.

    Where that cannot be written and has none, it is made now and not kept.
    """
    sha256 = read_record(dataset).sha256
    folder = workspace.lexical_index(digest(recipe(sha256, mining)))
    if not (folder.exists() or is_writable(folder)):
        return LexicalIndex(corpus, mining)
    kept = open_or_build(folder, corpus, mining, digest=sha256, progress=progress)
    return LexicalIndex(corpus, mining, postings=kept)


def rank_lexical(
    test: JudgedSet,
    config: EvaluationConfig,
    mining: MiningConfig,
    *,
    workspace: Workspace,
    progress: Progress,
    took: list[tuple[float, int]] | None = None,
) -> Ranking:
    """BM25 ranking; passages that share no term with a query are not ranked.

    Args:
        test: queries and passages.
        config: how deep it is.
        mining: which BM25.
        workspace: keeps indices.
        progress: is told.
        took: gets the seconds of some queries that are ranked again, and how many they are.
    """
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
    if took is not None:  # once more, now that kernels are compiled and pages are in memory
        some = dict(islice(test.queries.items(), TIMED_QUERIES))
        started = time.perf_counter()
        for _ in index.search_batches(some, depth=config.depth + 1):
            pass
        took.append((time.perf_counter() - started, len(some)))
    return ranking
