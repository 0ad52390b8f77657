"""Gather what current stages have measured, row by row of a table."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumn, ScoreColumns
from ragcun_cli.pipeline.report.rows import MAIN_METRIC, ModelRow, SeedResults
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import StageRecord
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.section import dotted


def gather(
    runs: Sequence[Run],
    road: Road,
    runner: Runner,
    columns: Collection[ScoreColumn] = (),
    beside: Sequence[Run] = (),
) -> list[ModelRow]:
    """Rows in the order of the runs; runs that differ in their seed alone share one.

    Args:
        runs: of the rows.
        road: of their tasks.
        runner: knows which are current.
        columns: of scores by query, beside those of the main metric.
        beside: all runs of the report, if there are others: names are told from theirs, and a run
            that is none of them counts as one without results.
    """
    groups: dict[Path, list[Run]] = {}
    for run in runs:
        identity = run.folder if run.seed is None else run.folder.parent
        groups.setdefault(identity, []).append(run)
    wanted = {(FULL_FORM, MAIN_METRIC), *columns}
    rows = []
    for name, title, members in _named(list(groups.values()), beside):
        known = {run.folder for run in beside or members}
        found = [
            _measured(run, road, runner, wanted)
            if run.folder in known
            else SeedResults(run, None, {}, {}, None, {}, {})
            for run in members
        ]
        most = max((seed.measured for seed in found), key=len)
        kept = tuple(seed for seed in found if seed.measured >= most)
        left_out = tuple(seed for seed in found if seed not in kept)
        rows.append(ModelRow(name, kept, left_out, title))
    return rows


def _measured(run: Run, road: Road, runner: Runner, wanted: Collection[ScoreColumn]) -> SeedResults:
    evaluations: dict[str, StageRecord] = {}
    samples: dict[str, str] = {}
    scores: dict[str, ScoreColumns] = {}
    metrics: dict[str, dict[str, Any]] = {}
    for dataset in run.profile.evaluation.datasets:
        score = road.evaluations.score(run, dataset)
        content = read_measured(score, f"{score.key}/{paths.SCORES}", runner)
        if content is None:
            continue
        found = read_measured(score, f"{score.key}/{paths.METRICS_FILE}", runner)
        if found is None:
            continue
        metrics[dataset] = json.loads(found)
        scores[dataset] = ScoreColumns.read(content, wanted)
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
        scores=scores,
        isotropy=None if isotropy is None else json.loads(isotropy),
        metrics=metrics,
        samples=samples,
        proxies=tuple(filter(None, map(road.place.sets.proxy_note, metrics))),
    )


def read_measured(task: Task, name: str, runner: Runner) -> bytes | None:
    """What a current task wrote; None, which is said, where it is damaged."""
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


def _named(groups: Sequence[list[Run]], beside: Sequence[Run]) -> list[tuple[str, str, list[Run]]]:
    """Names of rows, the same told from other runs, and their runs.

    Namesakes stand together, in order of what differs in them.
    """
    namesakes: dict[str, list[list[Run]]] = {}
    for members in groups:
        namesakes.setdefault(members[0].title, []).append(members)
    named = []
    for title, found in namesakes.items():
        values = [dotted(members[0].values) for members in found]
        known = [*values, *(dotted(run.values) for run in beside if run.title == title)]
        differing = _differing(values)
        places = [[_in_order(own.get(key)) for key in differing] for own in values]
        for number in sorted(range(len(found)), key=places.__getitem__):
            own = values[number]
            name, told = (_told(title, own, keys) for keys in (differing, _differing(known)))
            named.append((name, told, found[number]))
    return named


def _differing(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which some differ."""
    keys = sorted({key for own in values for key in own})
    return [key for key in keys if len({str(own.get(key)) for own in values}) > 1]


def _told(title: str, values: Mapping[str, Any], keys: Sequence[str]) -> str:
    pairs = [(key, str(values.get(key, "default"))) for key in keys]
    shown = ", ".join(f"{key}={text[:8] if 'sha256' in key else text}" for key, text in pairs)
    return f"{title} ({shown})" if shown else title


def _in_order(value: object) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    if isinstance(value, int | float):
        return False, float(value), ""
    return True, 0.0, str(value)
