"""Search the data sets of a run, and keep what is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ragcun_cli.core.search.ranking import Hits, merge
from ragcun_cli.pipeline.encoders.kept import open_cache
from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.pipeline.machine.processes import own_device
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.dense import (
    VARIANT_DEPTH,
    WHOLE,
    Search,
    Share,
    named_hits,
)
from ragcun_cli.pipeline.search.division import CHUNK_PASSAGES
from ragcun_cli.pipeline.search.hits_files import read_hits, write_hits
from ragcun_cli.pipeline.search.judged import TestSet, read_test_sets
from ragcun_cli.pipeline.search.lexical.rank import rank_lexical
from ragcun_cli.pipeline.search.rankings import ranking_of, write_run
from ragcun_cli.spec.errors import StaleInputError
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace, run_file


class Form(NamedTuple):
    """What hits are of."""

    part: str
    """Of the data set; nothing where it is one whole."""
    variant: str
    """Smaller form of the embeddings; nothing for themselves."""


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

    def on_rank(self, rank: int, world: int, progress: Progress) -> dict[Form, Hits]:
        """What one of the processes that share the work finds."""
        source = self.source
        if world > 1:
            source = source.on(own_device(source.device))
        found: dict[Form, Hits] = {}
        for test in read_test_sets(self.dataset, self.folder):
            search = Search(
                source.load(),
                test,
                self.config,
                query_scale=self.query_scale,
                cache=None
                if self.caches is None
                else open_cache(source, test.corpus, test.corpus_digest, self.config, self.caches),
                progress=progress,
            )
            state = self.state / f"{test.file_stem}.rank-{rank + 1}-of-{world}.npz"
            share = self.share.part(rank, world)
            hits = search.run(share, state=state, chunk=self.chunk)
            found |= {Form(test.part, variant): one for variant, one in hits.items()}
        return found


def merged(parts: Sequence[Mapping[Form, Hits]], config: EvaluationConfig) -> dict[Form, Hits]:
    """What several processes have found of the same data set, as one would have."""
    return {
        form: merge(
            [found[form] for found in parts],
            k=(VARIANT_DEPTH if form.variant else config.depth) + 1,
        )
        for form in parts[0]
    }


def write_shard(file: Path, found: Mapping[Form, Hits]) -> None:
    """Keep what one shard of a search found in each part of a data set."""
    write_hits(file, {f"{form.part}:{form.variant}": hits for form, hits in found.items()})


def read_shard(file: Path) -> dict[Form, Hits]:
    """What `write_shard` kept.

    Raises:
        StaleInputError: it is damaged.
    """
    kept = read_hits(file)
    if kept is None:
        raise StaleInputError(f"{file} is damaged", hint=f"rm {file}; search that shard again")
    return {Form(*name.split(":")): hits for name, hits in kept[0].items()}


def write_dense_runs(
    found: Mapping[Form, Hits],
    tests: Sequence[TestSet],
    folder: Path,
    *,
    config: EvaluationConfig,
    tag: str,
) -> None:
    """One run file for each part of a data set, and for each smaller form of the embeddings."""
    by_part = {test.part: test for test in tests}
    for form, hits in found.items():
        test, depth = by_part[form.part], VARIANT_DEPTH if form.variant else config.depth
        ranking = ranking_of(named_hits(hits, test.queries), test.corpus, depth=depth)
        write_run(ranking, folder / run_file(test.file_stem, form.variant), tag=tag)


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
