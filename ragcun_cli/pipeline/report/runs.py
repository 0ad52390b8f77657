"""Where the numbers of a report come from, as the manifests of its runs have it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from ragcun_cli.pipeline.profiles.toml_text import as_toml
from ragcun_cli.pipeline.report.background import Background, Recipe
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.table import Cell, Column, Table
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.manifest import Stage, StageRecord
from ragcun_cli.spec.section import dotted, stated

DEMONSTRATION = (
    "A demonstration on a small data set: it shows how the tool works, and is no evidence for or "
    "against a method."
)
MOST_NAMED = 6
"""Stages that one warning names; the others are counted."""

_COMPUTED = (Stage.MINE, Stage.TRAIN, Stage.SEARCH, Stage.EVAL, Stage.ISOTROPY)

_Stages = Sequence[tuple[Task, StageRecord | None]]
"""Of one run and of all that it rests on, in the order they run; no record where one is stale."""


def background_of(
    rows: Sequence[ModelRow], road: Road, runner: Runner, *, answers: Sequence[str] = ()
) -> Background:
    """All that a page says beside the tables and figures of gathered rows.

    Args:
        rows: whose runs are listed.
        road: of their tasks.
        runner: knows which are current.
        answers: sentences to begin with.
    """
    stages = {
        _label(row, seed.run): stages_of(seed.run, road, runner)
        for row in rows
        for seed in row.every
    }
    tasks = {task.identity: task for some in stages.values() for task, _ in some}
    sets = [task.folder.name for task in tasks.values() if task.stage is Stage.DATA]
    proxies = filter(None, map(road.place.sets.proxy_note, sets))
    demonstration = any(row.run.profile.demonstration for row in rows)
    return Background(
        answers=tuple(answers),
        warnings=(
            *([DEMONSTRATION] * demonstration),
            *proxies,
            *_missing(list(tasks.values()), runner),
        ),
        software=_software(stages),
        runs=_runs_table(rows, stages),
        digests=_digests(stages, road, runner),
        recipes=tuple({row.shown: recipe_of(row) for row in rows}.values()),
    )


def _label(row: ModelRow, run: Run) -> str:
    return row.shown if run.seed is None else f"{row.shown}, seed {run.seed}"


def stages_of(run: Run, road: Road, runner: Runner) -> _Stages:
    """The stages of a run and of all that it rests on, each with its record where it is current."""
    tasks = with_needs(road.results_of(run, run.profile.evaluation.datasets))
    return [(task, runner.current_record(task)) for task in tasks]


def some_of(labels: Sequence[str]) -> str:
    """The first `MOST_NAMED`, and how many more there are."""
    more = [f"and {len(labels) - MOST_NAMED} more"] * (len(labels) > MOST_NAMED)
    return "; ".join([*labels[:MOST_NAMED], *more])


def _missing(tasks: Sequence[Task], runner: Runner) -> list[str]:
    """Why something was not measured: the stages that others wait for, by what ails them."""
    causes: dict[str, list[str]] = {}
    for task in tasks:
        stale = runner.stale(task)
        if stale is not None and all(map(runner.is_current, task.needs)):
            causes.setdefault(stale.why, []).append(task.label)
    said = []
    for why, labels in causes.items():
        said.append(f"Not measured: {some_of(labels)}: {why}.")
    return [*said, *["The commands at the end of the page measure it."] * bool(said)]


def _software(stages: Mapping[str, _Stages]) -> tuple[str, ...]:
    """A line for each set of versions on each machine, with the runs whose stages it computed."""
    runs_with: dict[str, dict[str, None]] = {}
    for label, some in stages.items():
        for task, record in some:
            if record is not None and task.stage is not Stage.DATA:
                known = [f"{name} {version}" for name, version in record.versions.items()]
                known += [] if record.commit is None else [f"commit {record.commit} of ragcun"]
                driver = record.provenance.get("driver")
                known += [] if driver is None else [f"driver {driver}"]
                made_with = f"{', '.join(known)}, on {record.device}"
                runs_with.setdefault(made_with, {})[label] = None
    return tuple(
        f"{made_with}: {'every run' if len(runs) == len(stages) else '; '.join(runs)}."
        for made_with, runs in runs_with.items()
    )


def _runs_table(rows: Sequence[ModelRow], stages: Mapping[str, _Stages]) -> Table:
    """Every run: where it lies, when its last stage ended, and what each took."""
    body: dict[str, tuple[Cell, ...]] = {}
    for row in rows:
        for seed in row.every:
            run, some = seed.run, stages[_label(row, seed.run)]
            own = [record for task, record in some if task.stage in _COMPUTED]
            ends = [record.finished[:16] for record in own if record is not None]
            cells = (
                row.shown,
                "none" if run.seed is None else run.seed,
                f"{len(seed.evaluations)} of {len(run.profile.evaluation.datasets)}",
                *(_seconds(some, stage) for stage in _COMPUTED),
                max(ends).replace("T", " ") if ends else None,
                run.folder.relative_to(run.workspace.root).as_posix(),
            )
            body[_label(row, run)] = cells
    return Table(
        key="runs",
        caption="Every run, and the seconds that its stages took",
        columns=(
            Column("model", "Model"),
            Column("seed", "Seed"),
            Column("sets", "Data sets"),
            *(Column(stage.value, stage.value.capitalize(), digits=0) for stage in _COMPUTED),
            Column("finished", "Finished (UTC)"),
            Column("folder", "Folder"),
        ),
        rows=tuple(body.values()),
        notes=(
            "Runs of one seed and one mining share it. Search and eval are sums over the data sets "
            "that were measured. Folders are those of the workspace.",
        ),
        heading_columns=2,
    )


def _seconds(stages: _Stages, stage: Stage) -> Cell:
    found = [record for task, record in stages if task.stage is stage]
    known = [record.seconds for record in found if record is not None]
    return sum(known) if known else None if found else "none"


def _digests(stages: Mapping[str, _Stages], road: Road, runner: Runner) -> str:
    """What the numbers rest on, each file once, in the form of `sha256sum`."""
    workspace = road.place.workspace
    lines: dict[str, None] = {}
    for some in stages.values():
        for task, record in some:
            if record is None or task.stage not in (Stage.DATA, Stage.TRAIN):
                continue
            of_data = task.stage is Stage.DATA
            root, start = (workspace.data, "data/") if of_data else (workspace.root, "")
            folder = start + task.folder.relative_to(root).as_posix()
            for name, sha256 in runner.fed_digests(task).items():
                if of_data or name.endswith(".safetensors"):
                    lines[f"{sha256}  {folder}/{name.partition(':')[2]}"] = None
            if (base := record.details.get("encoder")) is not None:
                lines[f"# {base['digests']['sha256']}  weights of {base['name']}"] = None
    return "\n".join(sorted(lines, key=lambda line: line.removeprefix("# ")[64:]))


def recipe_of(row: ModelRow) -> Recipe:
    """The command of a row's runs, and the profile that it names, where it names one."""
    run, profile = row.run, row.run.profile
    if run.is_named_model:
        words = ["ragcun", "eval", "--model", run.title, "--datasets", *profile.evaluation.datasets]
        sections = {"encoder": stated(profile.encoder), "evaluation": stated(profile.evaluation)}
        for key, value in dotted(sections).items():
            if key not in ("encoder.base", "evaluation.datasets"):
                words += ["--set", f"{key}={json.dumps(value)}"]
        return Recipe(row.shown, shlex.join(words))
    words = ["ragcun", "reproduce", "--profile", f"{profile.name}.toml"]
    made_of = [one.name for one in (*run.parts, run)]
    words += [] if run.reference is None else ["--references", ",".join(made_of)]
    for seed in row.every:
        words += [] if seed.run.seed is None else ["--seed", str(seed.run.seed)]
    return Recipe(row.shown, shlex.join(words), without_home(as_toml(stated(profile))))
