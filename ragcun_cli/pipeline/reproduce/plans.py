"""`ragcun reproduce`: the whole road of a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ragcun_cli.core.folders import is_writable
from ragcun_cli.pipeline.report import tasks as reporting
from ragcun_cli.pipeline.report.formats.formats import render
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.dry_run import planned
from ragcun_cli.pipeline.reproduce.session import Choice, Session
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import RagcunError
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


class PlanSession(Session):
    """One `reproduce` command at work in one workspace."""

    def reproduce(
        self, choice: Choice, asked: Mapping[str, Any], *, dry_run: bool, baseline_check: bool
    ) -> Reproduced | dict[str, Any]:
        """Walk the road of a plan, or say, as JSON, what of it is current and what would run."""
        plan = self.plan(choice)
        runs = runs_of(plan, self.workspace)
        sets = walk.datasets_of(runs, self._place, self._progress)
        if dry_run:
            tasks = [*self._tasks(plan, runs, sets), *walk.descriptions(runs, self._runner)]
            every = {run.folder: run.profile.evaluation.datasets for run in runs}
            tasks += walk.stage_tasks(Stage.EVAL, runs, self._road, every)  # of absent sets, too
            here = [] if asked["gpu"] else runs
            self._place.refuse_device(here, set())
            refuse = partial(self._refuse, here)
            return planned(plan, tasks, self._road, self._runner, refuse, **asked)
        if set(asked.values()) != {None}:
            raise RagcunError("--gpu and --price-per-hour are for --dry-run", hint="add --dry-run")
        self._consent = replace(self._consent, retrains=True)
        gate = walk.gate_of(runs, self._road) if baseline_check else None
        ran = self._bring(lambda: self._tasks(plan, runs, sets), runs, gate=gate)
        stages = "1 stage" if ran == 1 else f"{ran} stages"
        self._progress.note(f"{stages} ran" if ran else "nothing to do: all is current")
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
        self, plan: PaperPlan, runs: Sequence[Run], sets: Mapping[Path, Sequence[str]]
    ) -> list[Task]:
        """Everything that stands behind the tables of a plan, and the tables."""
        work = [
            task
            for stage in (Stage.TRAIN, Stage.EVAL, Stage.ISOTROPY)
            for task in walk.stage_tasks(stage, runs, self._road, sets)
        ]
        return [*work, reporting.report_task(plan, runs, work, self._road, self._runner)]

    def _refuse(self, runs: Sequence[Run], task: Task) -> None:
        """Pass if a task could run where these runs are computed."""
        own = [run for run in runs if run.folder == task.folder]
        self._place.refuse_device(own, {task.stage})
        walk.refuse_absent([task], self._road)
        walk.refuse_unfit([task], self._runner)
