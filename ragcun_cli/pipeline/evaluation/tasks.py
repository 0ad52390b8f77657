"""The tasks that search and score data sets with the models of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.evaluation.mteb_files import is_known_to_mteb, write_mteb
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.search.division import Searching, Shard
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.pipeline.stages.runner import LEXICAL_NUMBERS, Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.pipeline.training.tasks import TrainingTasks
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import StaleInputError
from ragcun_cli.spec.manifest import Manifest, Stage
from ragcun_cli.spec.marks import MARK
from ragcun_cli.spec.section import stated


class EvaluationTasks:
    """Builds the tasks of searching and scoring in one place."""

    def __init__(self, place: Place, trainings: TrainingTasks, how: Searching) -> None:
        self._place, self._trainings, self.how = place, trainings, how

    def name(self, run: Run, dataset: str) -> str:
        """Of an evaluation in its run; one by another similarity than the model's is beside it."""
        similarity = run.profile.evaluation.similarity
        own = run.reference == "bm25" or similarity == "model"
        folder = paths.dataset_folder(dataset)
        return folder if own else f"{folder}@{similarity}"

    def tasks(self, run: Run, dataset: str) -> list[Task]:
        """What there is to do for one run and one data set: of a shard, its share of the search.

        BM25 and fusions are not divided: they are ranked where shards are merged.
        """
        if self.how.shard is None:
            return [self.search(run, dataset), self.score(run, dataset)]
        return [self.search(run, dataset)] if run.embeds else []

    def score(self, run: Run, dataset: str) -> Task:
        """Score the run files of one run on one data set."""
        search, data = self.search(run, dataset), self._place.sets.task(dataset)
        key = f"{paths.EVALUATIONS}/{self.name(run, dataset)}"
        config = run.profile.evaluation
        variants = config.variants if run.embeds else ()
        passages, queries = self._place.sets.counts(dataset)
        lines = queries * min(config.depth, passages)
        names = [paths.METRICS_FILE, paths.PER_QUERY, paths.SCORES]
        if run.embeds and is_known_to_mteb(dataset):
            names.append(paths.MTEB)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.data.sets.beir import unreachable
            from ragcun_cli.pipeline.evaluation.query_time import TIMES
            from ragcun_cli.pipeline.evaluation.scores import write_scores
            from ragcun_cli.pipeline.search.judged import read_judged_sets

            settings = {key: one for key, one in recorded(search).items() if key != TIMES}
            tests = read_judged_sets(dataset, data.folder)
            for test in tests:
                if lost := unreachable(test.qrels, test.corpus):
                    what = "judgements above 0 that no ranking can reach, counted as not found"
                    progress.note(f"{test.name}: {lost:,} {what}")
            content = write_scores(
                tests,
                run.folder / key,
                draft / key,
                depth=config.depth,
                variants=variants,
                settings=settings,
            )
            if paths.MTEB in names:
                write_mteb(
                    draft / key / paths.MTEB,
                    run,
                    dataset,
                    content,
                    data=recorded(data),
                    weights=settings["model"],
                )
            return {}

        return Task(
            stage=Stage.EVAL,
            label=f"eval {run.label} on {dataset}",
            folder=run.folder,
            key=key,
            values={"depth": config.depth, "variants": list(variants)},
            action=action,
            outputs=tuple(f"{key}/{name}" for name in names),
            feeds=(f"{key}/{paths.SCORES}",),
            needs=(search, data),
            size="run files",
            work=Workload(seconds=0.02 + estimate.SCORED_LINE * lines, disk_bytes=330.0 * queries),
        )

    def search(self, run: Run, dataset: str) -> Task:
        """Rank the passages of one data set, by one run, for its judged queries."""
        return self._search(run, dataset, self.how.shard if run.embeds else None)

    def measured(self, run: Run, dataset: str, runner: Runner) -> dict[str, Any] | None:
        """What a current evaluation has measured, as its `metrics.json` holds it; else None.

        ``metrics`` are the means that everything shows: of each part over queries, over parts.

        Raises:
            WorkspaceError: the file is not what was written.
        """
        score = self.score(run, dataset)
        if not runner.is_current(score):
            return None
        content: dict[str, Any] = json.loads(
            runner.read(score, f"{score.key}/{paths.METRICS_FILE}")
        )
        return content

    def folder(self, run: Run, dataset: str) -> Path:
        """Where an evaluation's scores and run files lie."""
        return run.folder / paths.EVALUATIONS / self.name(run, dataset)

    def _search(self, run: Run, dataset: str, shard: Shard | None) -> Task:
        data, train = self._place.sets.task(dataset), self._trainings.task(run)
        scale = self._scale(run)
        name = self.name(run, dataset)
        key, output = f"search/{name}", f"{paths.EVALUATIONS}/{name}/{paths.RUN_FILES}"
        if shard is not None:
            output = paths.shard_file(name, shard.index, shard.count)
            key = f"{key}/{shard.index}-of-{shard.count}"
        passages, queries = self._place.sets.counts(dataset)
        share = 1 if shard is None else shard.count
        mark = "" if shard is None else f", shard {shard}"
        parts = [(part, self.search(part, dataset)) for part in run.parts]

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.evaluation import search_job

            folder = (draft / output).parent
            if run.parts:
                return search_job.fuse_runs(
                    self._place,
                    run,
                    dataset,
                    folder,
                    [(self.folder(part, dataset), recorded(task)) for part, task in parts],
                )
            if not run.embeds:
                return search_job.search_lexically(self._place, run, dataset, folder, progress)
            if shard is None and self.how.merge:
                shards = self.shards(run, dataset)
                files = [run.folder / task.outputs[0] for task in shards]
                search_job.merge_shards(self._place, run, dataset, files, folder)
                return recorded(shards[0])
            return search_job.search_densely(
                self._place,
                run,
                dataset,
                shard,
                how=self.how,
                draft=draft,
                output=draft / output,
                progress=progress,
            )

        return Task(
            stage=Stage.SEARCH,
            label=f"search {run.label} on {dataset}{mark}",
            folder=run.folder,
            key=key,
            values=self._values(run),
            action=action,
            outputs=(output,) if shard is None else (output, f"{output}{MARK}"),
            feeds=(output,),
            needs=(train, data, *(task for _, task in parts), *filter(None, [scale])),
            reads_splits=((data, reported_split(dataset)),),
            resumable=run.embeds,
            size=f"{passages // share:,} passages",
            work=self._work(run, dataset, passages / share, queries),
        )

    def _work(self, run: Run, dataset: str, passages: float, queries: float) -> Workload:
        lines = queries * min(run.profile.evaluation.depth, passages)
        found = Workload(seconds=0.1, disk_bytes=estimate.RUN_LINE * lines)
        if run.parts:
            return found + Workload(seconds=estimate.FUSED_LINE * lines)
        if run.reference == "bm25":
            return estimate.bm25(queries=queries, passages=passages, name=dataset) + found
        hidden = self._place.shape(run.profile.encoder).hidden
        width = run.profile.encoder.output_dim
        a_passage = 2.0 * width * queries + 4.0 * hidden * (hidden + width)  # searched; its head
        encoded = self._place.encoding(run, dataset, (passages, queries), once=dataset)
        return encoded + found + Workload(products=passages * a_passage)

    def _values(self, run: Run) -> dict[str, Any]:
        config = run.profile.evaluation
        if run.reference == "bm25":
            return {"depth": config.depth, "lexical": LEXICAL_NUMBERS}
        values = stated(config)
        values.pop("datasets", None)
        return values

    # What free changes would do

    def what_if(self, run: Run, datasets: Sequence[str], dev: Sequence[str]) -> Task:
        """Score free changes of a run's embeddings on some data sets, and choose on dev queries."""
        sets = {name: self._place.sets.task(name) for name in (*datasets, *dev)}
        work = Workload(seconds=60.0 * len(sets))

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.evaluation.what_if import WhatIf

            model = self._place.source(run, keep=True).load(progress)
            folders = {name: task.folder for name, task in sets.items()}
            ladder = WhatIf(model, run.profile.evaluation, progress)
            return ladder.write(folders, datasets, dev, draft)

        return Task(
            stage=Stage.ISOTROPY,
            label=f"what if {run.label}",
            folder=run.folder,
            key="what_if",
            values={"datasets": [*datasets], "dev": [*dev], "evaluation": self._values(run)},
            action=action,
            outputs=(paths.WHAT_IF,),
            feeds=(paths.WHAT_IF,),
            needs=(self._trainings.task(run), *sets.values()),
            reads_splits=(
                *((sets[name], reported_split(name)) for name in datasets),
                *((sets[name], "dev") for name in dev),
            ),
            work=sum(
                (self._place.encoding(run, n, self._place.sets.counts(n)) for n in sets), work
            ),
        )

    # The query scale

    def _scale(self, run: Run) -> Task | None:
        """Fit the query scale of a run, where it is compared by one."""
        config = run.profile.evaluation
        if not run.embeds or config.similarity != "scaled_euclidean":
            return None
        train = run.profile.data.train
        name = "msmarco-select" if train == "msmarco" else train
        data = self._place.sets.task(name)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.evaluation.query_scale import write_query_scale

            model = self._place.load(run, progress)
            return write_query_scale(
                model, data.folder, name, draft, config=config, progress=progress
            )

        return Task(
            stage=Stage.SEARCH,
            label=f"fit the query scale of {run.label}",
            folder=run.folder,
            key="query_scale",
            values={k: v for k, v in self._values(run).items() if k in ("batch_size", "precision")},
            action=action,
            outputs=(paths.QUERY_SCALE,),
            feeds=(paths.QUERY_SCALE,),
            needs=(self._trainings.task(run), data),
            reads_splits=((data, "dev"),),
        )

    # Shards

    def shards(self, run: Run, dataset: str) -> list[Task]:
        """The tasks of all shards that a search was divided into, by what lies there."""
        folder = (run.folder / paths.shard_file(self.name(run, dataset), 1, 1)).parent
        found = [re.fullmatch(r"(\d+)-of-(\d+)\.npz", file.name) for file in folder.glob("*.npz")]
        counts = {int(match[2]) for match in found if match is not None}
        if not counts:
            raise StaleInputError(
                f"no shard of '{run.label}' on '{dataset}' was searched",
                hint=f"ragcun eval --shard 1/2 --datasets {dataset}",
            )
        if len(counts) > 1:
            raise StaleInputError(
                f"shards of '{run.label}' on '{dataset}' are of {sorted(counts)} parts: only one "
                "division can be merged",
                hint=f"rm -r {folder}",
            )
        count = counts.pop()
        return [self._search(run, dataset, Shard(index, count)) for index in range(1, count + 1)]

    def check_shards(self, run: Run, dataset: str, runner: Runner) -> None:
        """Refuse to merge shards that are not all there, or are not of this model and these texts.

        Raises:
            StaleInputError: naming the first of them.
        """
        for task in self.shards(run, dataset):
            if not runner.is_current(task):
                known = runner.record(task) is not None
                why = "is of another model, data set or setting" if known else "is not finished"
                shard = task.label.rpartition(" ")[2]
                raise StaleInputError(
                    f"'{task.label}' {why}",
                    hint=f"ragcun eval --shard {shard} --datasets {dataset}",
                )


def recorded(task: Task) -> Details:
    """What the record of a finished task remembers of it."""
    return dict(Manifest.load(task.folder / paths.MANIFEST).stages[task.key].details)
