"""One command at work in one workspace: which runs it means, what it runs, what it found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.profiles.load import load_plan, plans_with
from ragcun_cli.pipeline.report import tasks as reporting
from ragcun_cli.pipeline.report.contrasts import QUESTION
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.report.tables.isotropy import isotropy_tables
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.walk import Consent
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.search.division import ALONE, Searching
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import RagcunError, StaleInputError, WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage
from ragcun_cli.spec.paths import CACHE_GB
from ragcun_cli.spec.plan import PaperPlan
from ragcun_cli.spec.section import dotted


@dataclass(frozen=True)
class Choice:
    """Which runs a command means, as it was typed."""

    name: str | None = None
    """Profile or plan; None means all that the workspace has finished."""
    sets: Sequence[str] | None = None
    """Changes to it, ``key=value``."""
    seeds: Sequence[int] | None = None
    """Only these."""
    experiments: Sequence[str] | None = None
    """Only these of the plan."""
    references: str | None = None
    """Instead of the plan's, separated by commas."""

    @property
    def options(self) -> tuple[str, ...]:
        """What it changes about a plan, as it is typed."""
        words = [("--set", change) for change in self.sets or ()]
        words += [("--experiment", name) for name in self.experiments or ()]
        words += [("--seed", str(seed)) for seed in self.seeds or ()]
        words += [("--references", self.references)] if self.references is not None else []
        return tuple(word for pair in words for word in pair)

    @property
    def words(self) -> tuple[str, ...]:
        """The same with the profile, as a command has it."""
        return ("--profile", self.name or "", *self.options)


@dataclass(frozen=True)
class Mined:
    """What minings found, by label."""

    found: dict[str, Any]
    """Folder and counts of each or, of one query, its text, its positive and its negatives."""
    scores: dict[str, str] | None = None
    """What scores of the query's passages are of; None where no query was asked for."""


def _undone(sets: Sequence[str], before: PaperPlan, after: PaperPlan) -> list[str]:
    """Where options give two arms the same value in which a plan has them differ."""
    had, has = (
        {one.name: dotted(one.model_dump()) for one in plan.experiments} for plan in (before, after)
    )
    pairs = [(one.arm, one.against) for one in after.contrasts] or [QUESTION]
    return [
        f"--set {key} gives {arm} and {against} the same value, in which the plan has them differ: "
        f"for one of them, --experiment {arm}"
        for arm, against in dict.fromkeys(pairs)
        if {arm, against} <= had.keys() & has.keys()
        for key in dict.fromkeys(one.partition("=")[0] for one in sets)
        if had[arm].get(key) != had[against].get(key) and has[arm].get(key) == has[against].get(key)
    ]


class Session:
    """One command at work in one workspace."""

    def __init__(
        self,
        workspace: str | None,
        progress: Progress,
        *,
        ask: Callable[[str], bool] = lambda question: True,
        force: bool = False,
        prerequisites: bool = True,
        device: str = "auto",
        cache_gb: float = CACHE_GB,
        verify: bool = False,
        mirrors: Sequence[str] = (),
        how: Searching = ALONE,
    ) -> None:
        """Open the workspace.

        Args:
            workspace: as a person names it.
            progress: is told what is going on.
            ask: is asked before long work.
            force: run a stage although it is current.
            prerequisites: run earlier stages that are stale.
            device: where stages compute.
            cache_gb: of outputs of frozen bases, at most.
            verify: read files to see that they are intact.
            mirrors: addresses that downloads are asked of first; RAGCUN_MIRROR by default.
            how: data sets are searched.

        Raises:
            WorkspaceError: it is a file, or cannot be read.
        """
        self.workspace = open_workspace(workspace)
        self._progress = progress
        self._consent = Consent(prerequisites=prerequisites, force=force, ask=ask)
        asked = [*mirrors] or os.environ.get("RAGCUN_MIRROR", "").split()
        self._place = Place(self.workspace, device=device, mirrors=asked, cache_gb=cache_gb)
        self._road = Road.of(self._place, how)
        self._runner = Runner(progress, verify=verify, attempts=self.workspace.attempts)
        if verify:
            walk.say_damaged_caches(self.workspace, progress)

    # What to work on

    def plan(self, choice: Choice) -> PaperPlan:
        """A plan, or an experiment and the untouched base, with what the options change.

        Raises:
            ProfileError: there is none, or it has no such experiment or reference.
        """
        name = choice.name or ""
        plan = load_plan(name, sets=choice.sets or ())
        part = self.part(plan, choice)
        added = ", ".join(str(seed) for seed in part.seeds if seed not in plan.seeds)
        if added and plan.name != plan.experiments[0].name:  # an experiment has no seeds of its own
            own = f"not among the seeds of {name} ({', '.join(map(str, plan.seeds))})"
            self._progress.note(f"--seed {added}: {own}; such trainings are new, beside the plan's")
        less = ""
        if len(part.experiments) > 1:
            less = f"for one of the {len(part.experiments)} experiments: --experiment NAME"
        elif others := plans_with(name):
            names = sorted(others, key=lambda other: not self.workspace.report(other).exists())
            less = f"as in a plan: --profile {'|'.join(names)} --experiment {name}"
        self._consent = replace(self._consent, less=less)
        if choice.sets:
            for undone in _undone(choice.sets, load_plan(name), part):
                self._progress.note(undone)
        return self._settled(part)

    def _settled(self, plan: PaperPlan) -> PaperPlan:
        """A plan whose tuned arms have the values that their trials chose.

        Raises:
            StaleInputError: trials are missing.
        """
        plan = walk.with_scores(plan, self._road, self._runner)
        for arm in plan.tuned:
            if arm.best is None:
                done = sum(trial.score is not None for trial in arm.trials)
                raise StaleInputError(
                    f"the values of {arm.name} are not chosen yet: {done} of {len(arm.trials)} "
                    "trials are trained",
                    hint=f"{plan.command} --until train",
                )
        return plan

    def part(self, plan: PaperPlan, choice: Choice) -> PaperPlan:
        """What options leave of a plan, which has reports of its own where they change it."""
        part = plan.part(choice.experiments, choice.references, choice.seeds)
        return replace(part, options=(*plan.options, *choice.options))

    def trained_runs(self, choice: Choice) -> list[Run]:
        """The runs of a profile that are trained."""
        runs = runs_of(self.plan(choice), self.workspace)
        return [run for run in runs if run.reference is None]

    def runs(self, choice: Choice) -> list[Run]:
        """The runs and references of a profile, or all that the workspace has finished."""
        if choice.name is not None:
            return runs_of(self.plan(choice), self.workspace)
        for option, given in (("--set", choice.sets), ("--references", choice.references)):
            if given:
                raise WorkspaceError(
                    f"{option} changes a profile, and none is named",
                    hint=f"--profile NAME {option} …",
                )
        return walk.finished_runs(
            *(self._road, self._runner),
            experiments=choice.experiments or (),
            seeds=choice.seeds or (),
        )

    def names_here(self) -> set[str]:
        """The data sets that lie in this workspace."""
        folders = self.workspace.datasets.glob(f"[!.]*/{paths.MANIFEST}")
        return {file.parent.name for file in folders if "data" in Manifest.load(file).stages}

    # What to run, and what was found

    def mine(self, choice: Choice, *, query: str | None) -> Mined:
        """Mine, and give the counts of each mining, or what was found for one query."""
        from ragcun_cli.pipeline.mining.rows import look_up

        runs = self.trained_runs(choice)
        self._run_stage(Stage.MINE, runs)
        found: dict[str, Any] = {}
        scores: dict[str, str] = {}
        for run in runs:
            task, mining = self._road.minings.task(run), run.profile.mining
            if query is None:
                summary = json.loads(self._runner.read(task, paths.MINING_SUMMARY))
                found[task.label] = {"folder": str(task.folder)} | summary
            else:
                data = self._place.sets.task(run.profile.data.train)
                self._runner.require_intact([task, data])
                found[task.label] = look_up(task.folder, data.folder, query)
                scores[task.label] = "BM25" if mining.candidates == "bm25" else "score"
        return Mined(found, None if query is None else scores)

    def train(self, choice: Choice) -> list[dict[str, Any]]:
        """Train, and give what each training cost."""
        runs = self.trained_runs(choice)
        self._consent = replace(self._consent, retrains=True)
        self._run_stage(Stage.TRAIN, runs)
        records = [(run, self._runner.record(self._road.trainings.task(run))) for run in runs]
        return [
            {"run": run.name, "seed": run.seed, "model": str(run.folder / paths.MODEL)}
            | record.details
            for run, record in records
            if record is not None
        ]

    def isotropy(self, choice: Choice) -> list[Table]:
        """Measure, and give the tables of isotropy."""
        runs = self.runs(choice)
        sets = walk.datasets_of(runs, self._place, self._progress)
        self._run_stage(Stage.ISOTROPY, runs, sets)
        rows = gather(runs, self._road, self._runner)
        part = reporting.Part("", rows)
        return reporting.tables_of([part], lambda part: isotropy_tables(part.rows))

    def _run_stage(
        self, stage: Stage, runs: Sequence[Run], sets: Mapping[Path, Sequence[str]] | None = None
    ) -> None:
        """Bring one stage of some runs up to date, and what it rests on."""
        encoded = [] if stage is Stage.MINE else runs  # BM25 needs no encoder
        if not self._bring(lambda: walk.stage_tasks(stage, runs, self._road, sets or {}), encoded):
            self._progress.note("nothing to do: all is current")

    def _bring(
        self,
        build: Callable[[], list[Task]],
        runs: Sequence[Run],
        consent: Consent | None = None,
        **more: Any,  # noqa: ANN401 - a gate, and what gets the failures
    ) -> int:
        """Bring some tasks up to date, and the encoders of some runs; how many ran."""
        consent = consent or self._consent
        return walk.bring_up_to_date(build, runs, self._road, self._runner, consent, **more)


def data_set_names(given: Sequence[str] | None) -> list[str] | None:
    """Data sets by name or by the name of a group; None for ``all``."""
    split = [name.strip() for text in given or [] for name in text.split(",")]
    names = list(dict.fromkeys(name for name in split if name))
    if not names or names == ["all"]:
        return None
    if "all" in names:
        raise RagcunError("'all' stands alone: it means the sets of each run's plan")
    return names
