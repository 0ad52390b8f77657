"""Search the data sets of a run, and keep what is found."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ragcun_cli.core.rankings.fusion import RANK_OFFSET
from ragcun_cli.core.search.ranking import Hits, merge
from ragcun_cli.pipeline.encoders.kept import open_cache
from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.pipeline.evaluation.query_scale import query_scale_of
from ragcun_cli.pipeline.evaluation.query_time import TIMES, encoding_time
from ragcun_cli.pipeline.machine import processes
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.search.dense import (
    VARIANT_DEPTH,
    WHOLE,
    Search,
    Share,
    bytes_per_passage,
    max_tokens,
    named_hits,
    similarity_of,
)
from ragcun_cli.pipeline.search.division import Searching, Shard
from ragcun_cli.pipeline.search.held_out import recorded_digests, refuse_test_queries
from ragcun_cli.pipeline.search.hits_files import read_hits, write_hits
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_sets
from ragcun_cli.pipeline.search.lexical.rank import rank_lexical
from ragcun_cli.pipeline.search.rankings import fused, ranking_of, read_run, write_run
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details
from ragcun_cli.spec.errors import StaleInputError
from ragcun_cli.spec.measuring_config import EvaluationConfig
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
    query_scale: float
    share: Share
    chunk: int
    caches: Workspace | None
    """Keeps the embeddings of passages; None keeps none."""
    seconds: list[float | None] = field(default_factory=list)
    """Of ranking, one of each part that this process has searched."""

    def on_rank(self, rank: int, world: int, progress: Progress) -> dict[Form, Hits]:
        """What one of the processes that share the work finds."""
        source = self.source
        if world > 1:
            source = source.on(processes.own_device(source.device))
        found: dict[Form, Hits] = {}
        for test in read_judged_sets(self.dataset, self.folder):
            search = Search(
                source.load(progress),
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
            self.seconds.append(search.seconds)
            found |= {Form(test.part, variant): one for variant, one in hits.items()}
        return found


def merged_hits(parts: Sequence[Mapping[Form, Hits]], config: EvaluationConfig) -> dict[Form, Hits]:
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
    tests: Sequence[JudgedSet],
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


def search_lexically(
    place: Place, run: Run, dataset: str, folder: Path, progress: Progress
) -> Details:
    """Search by BM25: one run file for each part of a data set."""
    config, mining = run.profile.evaluation, run.profile.mining
    took: list[tuple[float, int]] = []
    for test in _judged_sets(place, dataset):
        how: Any = {"workspace": place.workspace, "progress": progress, "took": took}
        ranking = rank_lexical(test, config, mining, **how)
        write_run(ranking, folder / run_file(test.file_stem), tag=run.name)
    seconds, queries = map(sum, zip(*took, strict=True))
    return {
        "similarity": f"BM25, {mining.method}, k1 {mining.k1:g}, b {mining.b:g}",
        TIMES: {"encoding": None, "searching": 1000 * seconds / queries},
    }


def fuse_runs(
    place: Place, run: Run, dataset: str, folder: Path, parts: Sequence[tuple[Path, Details]]
) -> Details:
    """Make one run file of two for each part of a data set.

    Args:
        place: of the run.
        run: whose rankings they are.
        dataset: that was searched.
        folder: for the run files.
        parts: folder of the evaluation of each of the two, and what its search remembers.
    """
    seconds, queries = 0.0, 0
    for test in _judged_sets(place, dataset):
        file = run_file(test.file_stem)
        ranked = [read_run(source / file) for source, _ in parts]
        started = time.perf_counter()
        ranking = fused(*ranked, depth=run.profile.evaluation.depth)
        seconds, queries = seconds + time.perf_counter() - started, queries + len(ranking)
        write_run(ranking, folder / file, tag=run.name)
    dense, lexical = (details for _, details in parts)
    similarities = " and ".join(one["similarity"] for one in (dense, lexical))
    # Both searches one after the other, then the fusion; None where one was not measured.
    searching = [one.get(TIMES, {}).get("searching") for one in (dense, lexical)]
    took = None if None in searching else sum(searching) + 1000 * seconds / queries
    return {
        "similarity": f"reciprocal ranks, k {RANK_OFFSET}, of {similarities}",
        TIMES: {"encoding": dense.get(TIMES, {}).get("encoding"), "searching": took},
    }


def merge_shards(place: Place, run: Run, dataset: str, files: Sequence[Path], folder: Path) -> None:
    """Make run files of what all shards of a search have kept."""
    config = run.profile.evaluation
    found = merged_hits([read_shard(file) for file in files], config)
    write_dense_runs(found, _judged_sets(place, dataset), folder, config=config, tag=run.name)


def search_densely(
    place: Place,
    run: Run,
    dataset: str,
    shard: Shard | None,
    *,
    how: Searching,
    draft: Path,
    output: Path,
    progress: Progress,
) -> Details:
    """Search by a model, and keep run files or, of a shard, what it found.

    Args:
        place: of the run.
        run: that is searched with.
        dataset: to search.
        shard: whose share is searched; None searches all.
        how: the search is carried out.
        draft: for what an interrupted search has found.
        output: the shard's file, or one beside the run files.
        progress: is told.

    Returns:
        What the record remembers.

    Raises:
        DataError: the model or its query scale was chosen on queries of the data set.
    """
    config, source = run.profile.evaluation, place.source(run)
    query_scale, fitted_on = query_scale_of(run)
    if chosen := recorded_digests(run.folder) + fitted_on:
        for test in _judged_sets(place, dataset):
            refuse_test_queries(chosen, test, where=run.label)
    job = SearchJob(
        source=source,
        dataset=dataset,
        folder=place.sets.task(dataset).folder,
        config=config,
        state=draft / "state",
        query_scale=query_scale,
        share=WHOLE if shard is None else WHOLE.part(shard.index - 1, shard.count),
        chunk=how.chunk,
        caches=place.workspace if how.keep_embeddings else None,
    )
    found = merged_hits(processes.shared(job.on_rank, progress), config)
    if shard is None:
        tests = _judged_sets(place, dataset)
        write_dense_runs(found, tests, output.parent, config=config, tag=run.name)
    else:
        write_shard(output, found)
    model, times = source.load(), {}
    if shard is None:
        asked = [text for test in tests for text in test.queries.values()]
        whole = processes.is_alone() and None not in job.seconds
        took = 1000 * sum(filter(None, job.seconds)) / len(asked) if whole else None
        encoding = encoding_time(model, asked, precision=config.precision)
        times = {TIMES: {"encoding": encoding, "searching": took}}
    scaled = config.similarity == "scaled_euclidean"
    return {
        "similarity": config.similarity if scaled else similarity_of(model, config),
        "dimensions": model.get_embedding_dimension(),
        "precision": config.precision,
        "embeddings": config.embeddings,
        "bytes_per_passage": bytes_per_passage(model, config),
        "max_tokens": max_tokens(model),
        "parameters": sum(values.numel() for values in model.parameters()),
        "model": source.digest(),
        **times,
        **({"query_scale": query_scale} if scaled else {}),
    }


def _judged_sets(place: Place, dataset: str) -> list[JudgedSet]:
    return read_judged_sets(dataset, place.sets.task(dataset).folder)
