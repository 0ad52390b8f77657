"""Gather what current stages have measured, row by row of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.report.rows import ModelRow, PerQuery, SeedResults
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import StageRecord
from ragcun_cli.spec.section import dotted


def gather(runs: Sequence[Run], road: Road, runner: Runner) -> list[ModelRow]:
    """Rows in the order of the runs; runs that differ in their seed alone share one."""
    groups: dict[Path, list[Run]] = {}
    for run in runs:
        identity = run.folder if run.seed is None else run.folder.parent
        groups.setdefault(identity, []).append(run)
    labels = _labels([members[0] for members in groups.values()])
    return [
        ModelRow(label, tuple(_measured(run, road, runner) for run in members))
        for label, members in zip(labels, groups.values(), strict=True)
    ]


def _measured(run: Run, road: Road, runner: Runner) -> SeedResults:
    evaluations: dict[str, StageRecord] = {}
    samples: dict[str, str] = {}
    per_query: dict[str, PerQuery] = {}
    metrics: dict[str, dict[str, Any]] = {}
    for dataset in run.profile.evaluation.datasets:
        score = road.evaluations.score(run, dataset)
        text = read_measured(score, f"{score.key}/{paths.PER_QUERY}", runner)
        found = (
            None
            if text is None
            else read_measured(score, f"{score.key}/{paths.METRICS_FILE}", runner)
        )
        if text is None or found is None:
            continue
        metrics[dataset] = json.loads(found)
        per_query[dataset] = _scores(text)
        evaluations[dataset] = _cost(road.evaluations.tasks(run, dataset), runner)
        data = runner.record(road.place.sets.task(dataset))
        if data is not None and "sample" in data.details:
            samples[dataset] = data.details["sample"]["of"]
    task = road.isotropies.task(run)
    isotropy = None if task is None else read_measured(task, paths.ISOTROPY, runner)
    return SeedResults(
        run=run,
        training=runner.current_record(road.trainings.task(run)),
        evaluations=evaluations,
        per_query=per_query,
        isotropy=None if isotropy is None else json.loads(isotropy),
        metrics=metrics,
        samples=samples,
    )


def read_measured(task: Task, name: str, runner: Runner) -> str | None:
    """Text of what a current task wrote; None, which is said, where it is damaged."""
    stale = runner.stale(task)
    if stale is None:
        try:
            return runner.read(task, name)
        except WorkspaceError as error:
            runner.progress.note(f"not measured: {task.label}: {error}")
    elif stale.kind != "absent":
        runner.progress.note(f"not measured: {task.label}: {stale.why}")
    return None


def _cost(tasks: Sequence[Task], runner: Runner) -> StageRecord:
    """The record of a search, its time that of the scoring too."""
    search, *others = [record for task in tasks if (record := runner.record(task)) is not None]
    seconds = search.seconds + sum(record.seconds for record in others)
    return search.model_copy(update={"seconds": seconds})


def _scores(per_query: str) -> PerQuery:
    scores: PerQuery = {}
    for line in per_query.splitlines():
        row = json.loads(line)
        scores.setdefault(row.pop("part", ""), {})[row.pop("query")] = row
    return scores


def _labels(runs: Sequence[Run]) -> list[str]:
    """Names of rows; namesakes are told apart by the values in which they differ."""
    labels = []
    for run in runs:
        others = [dotted(other.values) for other in runs if other.title == run.title]
        if len(others) == 1:
            labels.append(run.title)
            continue
        keys = sorted({key for values in others for key in values})
        own = dotted(run.values)
        differing = [key for key in keys if len({str(values.get(key)) for values in others}) > 1]
        shown = ", ".join(f"{key}={own.get(key, 'default')}" for key in differing)
        labels.append(f"{run.title} ({shown})")
    return labels
