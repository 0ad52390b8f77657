"""`ragcun reproduce`: the whole road of a plan."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ragcun_cli.core.folders import is_writable
from ragcun_cli.pipeline.evaluation.baseline import BaselineGate
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.report import tasks as reporting
from ragcun_cli.pipeline.report.formats.formats import render
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.failures import Failures
from ragcun_cli.pipeline.reproduce.launch.gpus import GpuLauncher, visible_gpus
from ragcun_cli.pipeline.reproduce.launch.jobs import Launched, jobs_of
from ragcun_cli.pipeline.reproduce.session import Choice, Session
from ragcun_cli.pipeline.reproduce.status import COLUMNS, PlanStatus, status_of
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.running import EVERY
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import StageFailedError, WorkspaceError
from ragcun_cli.spec.manifest import Stage, write_atomically
from ragcun_cli.spec.plan import PaperPlan


@dataclass(frozen=True)
class Reproduced:
    """The tables of a plan that was walked to its end."""

    answers: Sequence[str]
    """What the primary contrast says, in one sentence; none where it was not measured."""
    tables: Sequence[Table]
    models: Sequence[tuple[str, Path]]
    """Label and model of each trained run."""
    folder: Path
    """Of its reports."""
    document: Callable[[], str]
    """Makes JSON of tables and figures."""

    def __call__(self) -> str:
        """That JSON."""
        return self.document()


REPORT = "report"
"""What names the report among the runs of a plan."""


@dataclass(frozen=True)
class Walking:
    """How far the road of a plan is walked, and for whom."""

    until: Stage | None = None
    """The last stage; None is the report or, of single runs, isotropy."""
    only: Sequence[str] = ()
    """Keys of runs, and `report`; none are all."""
    dry_run: bool = False
    """It is only said what is current and what would run."""
    status: bool = False
    """It is only said how far each run is."""
    launcher: Literal["local", "gpus", "slurm"] = "local"
    """What starts the runs: this command itself, one after the other, or as commands of their own
    on the GPUs of this machine or on a cluster."""
    gpus: str | None = None
    """Indices of the GPUs to use, separated by commas; None takes all."""
    baseline_check: bool = True
    """The untouched base has to have its published scores before anything is trained."""

    @property
    def gated(self) -> bool:
        """Whether that is looked at: not where nothing is trained or tested."""
        return self.baseline_check and self.last not in (Stage.DATA, Stage.MINE)

    @property
    def last(self) -> Stage:
        """The last stage."""
        return self.until or (Stage.ISOTROPY if self.only else Stage.REPORT)

    @property
    def reports(self) -> bool:
        """Whether the report is written."""
        return REPORT in self.only or (self.last is Stage.REPORT and not self.only)


Found = Reproduced | PlanStatus | Launched | dict[str, Any] | None
"""What a plan's tables answer; how far its runs are; which were handed to a cluster; as JSON, what
would run; nothing where it was not walked to its report."""


class PlanSession(Session):
    """One `reproduce` command at work in one workspace."""

    def reproduce(self, choice: Choice, walking: Walking) -> Found:
        """Walk the road of a plan, or say what of it is current and what would run.

        Raises:
            WorkspaceError: it has no such run.
            BlockedError: a stage of another run would have to be there first.
            RagcunError: a stage failed; what does not rest on it was done, and the report is of
                that.
        """
        plan = self.plan(choice)
        if walking.status:
            return self._status(plan)
        every = runs_of(plan, self.workspace)
        runs = self._chosen(plan, every, walking.only)
        sets: dict[Path, list[str]] = {
            run.folder: [] for run in runs
        }  # a base beside the plan is checked alone
        sets |= walk.datasets_of(every, self._place, self._progress)
        if walking.dry_run:
            tasks = self._tasks(runs, sets, walking.last)
            tasks += [self._report_task(plan, every, tasks)] * walking.reports
            return self._planned(plan, runs, [*tasks, *walk.descriptions(runs, self._runner)])
        self._consent = replace(self._consent, retrains=True)
        gate = walk.gate_of(every, self._road) if walking.gated else None
        failures = Failures(self._runner)

        def tasks_of_runs() -> list[Task]:
            return self._tasks(runs, sets, walking.last)

        ran, launched = 0, Launched()
        if walking.launcher != "local":
            launched = self._launch(choice, walking, plan, runs, sets, gate)
            if launched.submitted:
                return launched
        elif runs:
            ran = self._bring(tasks_of_runs, runs, gate=gate, failures=failures)
        if walking.reports:
            ran += self._write_report(choice, plan, every, sets, failures)
        if failures:
            self._say_what_is_left(choice, runs, tasks_of_runs())
            failures.require_none(tasks_of_runs())
        if launched.failed:
            said = "".join(f"\n  {name}: {why}" for name, why in launched.failed.items())
            raise StageFailedError(f"{len(launched.failed)} jobs failed:{said}")
        stages = "1 stage" if ran == 1 else f"{ran} stages"
        self._progress.note(f"{stages} ran" if ran else "nothing to do: all is current")
        return self._result(plan, every) if walking.reports else None

    def _status(self, plan: PaperPlan) -> PlanStatus:
        runs = runs_of(plan, self.workspace)
        sets = walk.datasets_of(runs, self._place, Silent())
        groups = self._groups(plan, runs, sets)
        return PlanStatus(plan.name, status_of(groups, self.workspace, self._runner, {}))

    def _groups(
        self, plan: PaperPlan, runs: Sequence[Run], sets: Mapping[Path, Sequence[str]]
    ) -> dict[str, list[Task]]:
        """The tasks of a plan: those that runs share, those of each, and the report."""
        work = self._tasks(runs, sets, Stage.REPORT)
        own: dict[Path, list[Task]] = {run.folder: [] for run in runs}
        shared: list[Task] = []
        for task in with_needs(work):
            own.get(task.folder, shared).append(task)
        keys = {run.folder: run.key for run in runs}
        groups = {keys[folder]: tasks for folder, tasks in own.items()}
        return (
            {"data and negatives": shared}
            | groups
            | {REPORT: [self._report_task(plan, runs, work)]}
        )

    def _launch(
        self,
        choice: Choice,
        walking: Walking,
        plan: PaperPlan,
        runs: Sequence[Run],
        sets: Mapping[Path, Sequence[str]],
        gate: BaselineGate | None,
    ) -> Launched:
        """Bring here what has to be fetched, and hand the runs to a launcher."""
        tasks = self._tasks(runs, sets, walking.last)
        checks = [] if gate is None else self._runner.pending(gate.tasks())
        pending = self._runner.pending([*checks, *tasks])
        if not pending:
            return Launched()
        walk.make_ready(pending, tasks, runs, self._road, self._runner, self._consent)
        for task in pending:
            if task.stage is Stage.DATA:
                self._runner.run(task)
        words = ["reproduce", *choice.words, "--workspace", str(self.workspace.root.absolute())]
        words += ["--no-prerequisites", "--yes", *self._place.words]
        words += [] if walking.baseline_check else ["--skip-baseline-check"]
        jobs = jobs_of(
            [run for run in runs if self._runner.pending(self._tasks([run], sets, walking.last))],
            self._road,
            self._runner,
            words=words,
            last=walking.last,
            checked={task.folder for task in checks},
        )
        watch = self._watch(self._groups(plan, runs, sets))
        gpus = visible_gpus(walking.gpus)
        return GpuLauncher(gpus, self.workspace.logs, self._progress, watch=watch).launch(jobs)

    def _watch(self, groups: Mapping[str, Sequence[Task]]) -> Callable[[], None]:
        """Shows, every few seconds, how far groups of tasks are."""
        shown = 0.0

        def watch() -> None:
            nonlocal shown
            if time.monotonic() - shown > EVERY:
                runner = Runner(self._progress, attempts=self.workspace.attempts)
                found = status_of(groups, self.workspace, runner, {})
                self._progress.board("", COLUMNS, [one.cells for one in found])
                shown = time.monotonic()

        return watch

    def _chosen(self, plan: PaperPlan, runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
        """The runs of some keys; of a base that the plan has no row for, too."""
        bases = [Run(p, None, "untouched", self.workspace) for p in plan.experiments]
        known = {run.folder: run for run in (*runs, *bases)}.values()
        keys = [*(run.key for run in known), REPORT]
        for key in only:
            if key not in keys:
                raise WorkspaceError(
                    f"'{key}' is no run of {plan.name}; these are: {', '.join(keys)}",
                    hint=f"{plan.command} --dry-run",
                )
        return [run for run in known if run.key in only] if only else list(runs)

    def _write_report(
        self,
        choice: Choice,
        plan: PaperPlan,
        runs: Sequence[Run],
        sets: Mapping[Path, Sequence[str]],
        failures: Failures,
    ) -> int:
        """Write the report of what there is; what failed is not waited for.

        Raises:
            BlockedError: another command is still to make some of it.
            StageFailedError: some of it failed in another command.
        """
        work = self._tasks(runs, sets, Stage.REPORT)
        pending = self._runner.pending(work)
        lost = self._runner.failures(pending)
        if not self._consent.prerequisites:
            self._runner.require_made([task for task in pending if task.identity not in lost])
        there = [task for task in work if self._runner.is_current(task)]
        ran = int(self._runner.run(self._report_task(plan, runs, there)))
        if pending and not failures:
            self._say_what_is_left(choice, runs, work)
            for why in () if self._consent.prerequisites else lost.values():
                raise StageFailedError(why, hint="the command above")
        return ran

    def _report_task(self, plan: PaperPlan, runs: Sequence[Run], work: Sequence[Task]) -> Task:
        return reporting.report_task(plan, runs, work, self._road, self._runner)

    def _say_what_is_left(self, choice: Choice, runs: Sequence[Run], work: Sequence[Task]) -> None:
        """Which runs are not done, and the command for them alone."""
        left = {task.folder for task in self._runner.pending(work)}
        keys = [run.key for run in runs if run.folder in left]
        words = [*choice.words, *(word for key in keys for word in ("--run", key))]
        just_those = shlex.join(["ragcun", "reproduce", *words])
        self._progress.note(f"not done: {', '.join(keys)}; for just those: {just_those}")

    def _result(self, plan: PaperPlan, runs: Sequence[Run]) -> Reproduced:
        if is_writable(self.workspace.reports):  # a workspace of others is shown all the same
            write_atomically(self.workspace.last_report, f"{plan.folder}\n")
        rows = gather(runs, self._road, self._runner, reporting.columns_of(plan))
        parts = [reporting.Part(plan.name, rows, plan)]
        tables = reporting.tables_of(parts)
        return Reproduced(
            answers=reporting.answers_of(parts),
            tables=tables,
            models=[(run.label, run.folder / paths.MODEL) for run in runs if run.reference is None],
            folder=self.workspace.report(plan.folder),
            document=partial(self._document, tables, parts),
        )

    def _document(self, tables: Sequence[Table], parts: Sequence[reporting.Part]) -> str:
        figures = reporting.figures_of(parts, self._road, self._runner)
        return render(tables, figures, "json", title=parts[0].title)

    def _tasks(
        self, runs: Sequence[Run], sets: Mapping[Path, Sequence[str]], last: Stage
    ) -> list[Task]:
        """What stands behind the tables of some runs, up to a stage."""
        walked = [Stage.TRAIN, Stage.SEARCH, Stage.EVAL, Stage.ISOTROPY, Stage.REPORT]
        stages = walked[: walked.index(last) + 1] if last in walked else [Stage.MINE]
        tasks = [
            task for stage in stages for task in walk.stage_tasks(stage, runs, self._road, sets)
        ]
        if last is not Stage.DATA:
            return tasks
        tasks += walk.stage_tasks(Stage.EVAL, runs, self._road, sets)
        return [task for task in with_needs(tasks) if task.stage is Stage.DATA]

    def _planned(
        self, plan: PaperPlan, runs: Sequence[Run], tasks: Sequence[Task]
    ) -> dict[str, Any]:
        pending = self._runner.pending(tasks)
        self._place.refuse_device(runs, {task.stage for task in pending})
        walk.refuse_unfit(pending, self._runner)
        current = [task for task in with_needs(tasks) if self._runner.is_current(task)]
        return {
            "plan": plan.name,
            "stages": [self._planned_stage(task) for task in (*current, *pending)],
            "total": estimate.duration(sum(task.seconds for task in pending)),
        }

    def _planned_stage(self, task: Task) -> dict[str, Any]:
        stale = self._runner.stale(task)
        return {
            "stage": task.stage.value,
            "what": task.label,
            "state": "current" if stale is None else "will run",
            "why": None if stale is None else stale.why,
            "estimate": "" if stale is None else walk.size_and_time(task),
        }
