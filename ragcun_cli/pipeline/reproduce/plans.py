"""`ragcun reproduce`: the whole road of a plan."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ragcun_cli.core.folders import is_writable
from ragcun_cli.pipeline.evaluation.baseline import BaselineGate
from ragcun_cli.pipeline.machine import processes
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.profiles.load import launch_config
from ragcun_cli.pipeline.report import tasks as reporting
from ragcun_cli.pipeline.report.formats.formats import render
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.clean import REMOVED, Inventory
from ragcun_cli.pipeline.reproduce.dry_run import planned
from ragcun_cli.pipeline.reproduce.failures import Failures
from ragcun_cli.pipeline.reproduce.launch.gpus import GpuLauncher, visible_gpus
from ragcun_cli.pipeline.reproduce.launch.jobs import Launched, Launcher, RunJob
from ragcun_cli.pipeline.reproduce.launch.slurm import SlurmLauncher
from ragcun_cli.pipeline.reproduce.next_steps import next_steps
from ragcun_cli.pipeline.reproduce.plan_work import REPORT, PlanWork
from ragcun_cli.pipeline.reproduce.session import Choice, Session
from ragcun_cli.pipeline.reproduce.status import COLUMNS, PlanStatus, Queued, status_of
from ragcun_cli.pipeline.stages.course import Course
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.running import EVERY
from ragcun_cli.pipeline.stages.runs import Run, runs_on_disk
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import RagcunError, StageFailedError, WorkspaceError, first_line
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
    next_steps: Sequence[tuple[str, str]]
    """What may be typed now: what it does, and the command."""
    document: Callable[[], str]
    """Makes JSON of tables and figures."""

    def __call__(self) -> str:
        """That JSON."""
        return self.document()


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
    clean: bool = False
    """What can be made again and no run uses is removed or, in a dry run, listed."""
    launcher: Literal["local", "gpus", "slurm"] = "local"
    """What starts the runs: this command itself, one after the other, or as commands of their own
    on the GPUs of this machine or on a cluster."""
    gpus: str | None = None
    """Indices of the GPUs to use, separated by commas; None takes all."""
    gpu: str | None = None
    """Short name of a card that a dry run is for, instead of this machine."""
    price: float | None = None
    """Of an hour of the machine that a dry run is for."""
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

    def _settled(self, plan: PaperPlan) -> PaperPlan:
        """The plan as it is: what its trials have not chosen yet, this command finds out."""
        return plan

    def reproduce(self, choice: Choice, walking: Walking) -> Found:
        """Walk the road of a plan, or say what of it is current and what would run.

        Raises:
            WorkspaceError: it has no such run.
            BlockedError: a stage of another run would have to be there first.
            RagcunError: a stage failed; what does not rest on it was done, and the report is of
                that.
        """
        if not walking.dry_run and (walking.gpu, walking.price) != (None, None):
            raise RagcunError("--gpu and --price-per-hour are for --dry-run", hint="add --dry-run")
        if walking.gpus is not None and walking.launcher != "gpus":
            raise RagcunError("--gpus is of --launcher gpus", hint="--launcher gpus --gpus 0")
        plan = self.plan(choice)
        work = PlanWork.of(plan, self._road, self._runner, self._progress)
        if walking.status or walking.clean or walking.dry_run:
            return self._looked_at(choice, walking, work)
        self._consent = replace(self._consent, retrains=True)
        gate = walk.gate_of(work.runs, self._road) if walking.gated else None
        ran, failures, launched = 0, Failures(self._runner), Launched()
        if walking.launcher != "local":
            launched = self._launch(choice, walking, work, gate)
        elif work.named(walking.only):
            ran = self._walk(plan, walking, gate, failures)
        if launched.submitted:
            return launched
        work = PlanWork.of(plan, self._road, self._runner, Silent())
        left = self._runner.pending(work.tasks(work.named(walking.only), walking.last))
        if walking.reports:
            ran += self._write_report(work)
        if left:
            self._say_what_is_left(choice, walking, work)
        failures.require_none(left)
        if launched.failed:
            said = "".join(f"\n  {name}: {why}" for name, why in launched.failed.items())
            jobs = "1 job" if len(launched.failed) == 1 else f"{len(launched.failed)} jobs"
            raise StageFailedError(f"{jobs} failed:{said}")
        stages = "1 stage" if ran == 1 else f"{ran} stages"
        last = (": the report" if ran == 1 else ", the last one the report") * walking.reports
        self._progress.note(f"{stages} ran{last}" if ran else "nothing to do: all is current")
        return self._result(choice, work.plan, work.runs) if walking.reports else None

    def _looked_at(self, choice: Choice, walking: Walking, work: PlanWork) -> Found:
        """What there is, without any work."""
        if walking.status:
            queued: Queued = {}
            try:
                queued = self._slurm(work.plan).queued()
            except RagcunError as error:  # as where Slurm is installed, and no cluster is there
                self._progress.note(f"without the queue of a cluster: {first_line(error)}")
            found = status_of(work.groups(), self.workspace, self._runner, queued)
            return PlanStatus(work.plan.name, found)
        if walking.clean:
            return self._clean(work.every, dry_run=walking.dry_run)
        runs = work.named(walking.only)
        tasks = [*work.tasks(runs, walking.last), *[work.report()] * walking.reports]
        tasks += walk.lost_descriptions(runs, self._runner)
        tasks += work.of_absent_sets(runs, walking.last)
        here = [] if walking.gpu else runs
        self._place.refuse_device(here, set())
        planning: dict[str, Any] = {"gpu": walking.gpu, "price": walking.price}
        refuse = partial(self._refuse, here)
        said = planned(work.plan, tasks, self._road, self._runner, refuse, **planning)
        jobs: list[RunJob] = []
        if walking.launcher == "slurm":
            gate = walk.gate_of(work.runs, self._road) if walking.gated else None
            jobs = self._jobs(choice, walking, work, gate)
        return said | {"scripts": [self._slurm(work.plan).script(job) for job in jobs]}

    def _walk(
        self, plan: PaperPlan, walking: Walking, gate: BaselineGate | None, failures: Failures
    ) -> int:
        """Do the work of some runs here: trials first, then the rows whose values they chose."""
        ran = 0
        for of_trials in (True, False) if plan.tuned else (False,):
            work = PlanWork.of(plan, self._road, self._runner, Silent())
            runs = work.named(walking.only)
            waiting = [run for run in runs if not work.is_settled(run)]
            tried = list({t.folder: t for run in waiting for t in work.trials_for(run)}.values())
            if not self._consent.prerequisites:
                self._runner.require_made(self._runner.pending(work.tasks(tried, Stage.TRAIN)))
            if of_trials:
                runs = [run for run in runs if run.trial is not None]
                runs += [run for run in tried if run not in runs]
            else:
                early = walking.last in (Stage.DATA, Stage.MINE)  # the same for all values
                rows = (run for run in runs if run.trial is None)
                runs = [run for run in rows if early or work.is_settled(run)]
            tasks = partial(work.tasks, runs, walking.last)
            ran += self._bring(tasks, runs, gate=gate, failures=failures) if runs else 0
        return ran

    def _launch(
        self, choice: Choice, walking: Walking, work: PlanWork, gate: BaselineGate | None
    ) -> Launched:
        """Bring here what has to be fetched, and hand the runs to a launcher."""
        if not processes.is_alone():
            raise WorkspaceError(
                "torchrun divides one run among processes, and a launcher starts many runs",
                hint="the same command without torchrun; [launch] processes_per_run on a cluster",
            )
        runs = work.named(walking.only)
        tasks = work.tasks(runs, walking.last)
        checks = [] if gate is None else self._runner.pending(gate.tasks())
        pending = self._runner.pending([*checks, *tasks])
        if not pending:
            return Launched()
        here = walking.launcher == "gpus"
        gpus = visible_gpus(walking.gpus) if here else []  # before anything is fetched
        ready = (pending, tasks, runs, self._road, self._runner, self._consent)
        walk.make_ready(*ready, computes_here=here)
        data = [task for task in pending if task.stage is Stage.DATA]
        self._runner.course = Course(data)
        for task in data:
            self._runner.run(task)
        jobs = self._jobs(choice, walking, work, gate)
        logs, watch = self.workspace.logs, self._watch(work)
        launcher: Launcher = (
            GpuLauncher(gpus, logs, self._progress, watch=watch) if here else self._slurm(work.plan)
        )
        try:
            return launcher.launch(jobs)
        finally:
            self._progress.board("", (), ())
            self._runner.look_again()

    def _jobs(
        self, choice: Choice, walking: Walking, work: PlanWork, gate: BaselineGate | None
    ) -> list[RunJob]:
        """What a launcher has to start; a report that nobody waits for is a job, too."""
        words = ["reproduce", *choice.words, "--workspace", str(self.workspace.root.absolute())]
        words += ["--launcher", "local", "--no-prerequisites", "--yes", *self._place.words]
        words += [] if walking.baseline_check else ["--skip-baseline-check"]
        checks = [] if gate is None else self._runner.pending(gate.tasks())
        jobs = work.jobs(
            work.named(walking.only),
            words=words,
            last=walking.last,
            checked={task.folder for task in checks},
        )
        if walking.launcher == "slurm" and walking.reports:
            every = tuple(job.name for job in jobs)
            jobs.append(RunJob(REPORT, (*words, "--run", REPORT), every, on_gpu=False))
        return jobs

    def _slurm(self, plan: PaperPlan) -> SlurmLauncher:
        return SlurmLauncher(self.workspace, plan.folder, launch_config(plan.launch))

    def _watch(self, work: PlanWork) -> Callable[[], None]:
        """Shows, every few seconds, how far the runs are."""
        shown = 0.0

        def watch() -> None:
            nonlocal shown
            if time.monotonic() - shown > EVERY:
                runner = Runner(Silent(), attempts=self.workspace.attempts)
                now = PlanWork.of(work.plan, self._road, runner, Silent())
                found = status_of(now.groups(), self.workspace, runner, {})
                self._progress.board("", COLUMNS, [one.cells for one in found])
                shown = time.monotonic()

        return watch

    def _write_report(self, work: PlanWork) -> int:
        """Write the report of what there is; what failed is not waited for.

        Raises:
            BlockedError: another command is still to make some of it.
            StageFailedError: some of it failed in another command.
        """
        if self._consent.prerequisites:
            return int(self._runner.run(work.report()))
        settled = [run for run in work.every if work.is_settled(run)]  # else its trials are pending
        pending = self._runner.pending(work.tasks(settled))
        lost = self._runner.failures(pending)
        self._runner.require_made([task for task in pending if task.identity not in lost])
        ran = int(self._runner.run(work.report()))
        for why in lost.values():
            raise StageFailedError(f"the report is not of all runs: {why}")
        return ran

    def _say_what_is_left(self, choice: Choice, walking: Walking, work: PlanWork) -> None:
        """Which runs are not done, and the command for them alone, and for the report."""
        runs, last = work.named(walking.only), walking.last
        keys = [run.key for run in runs if self._runner.pending(work.tasks([run], last))]
        asked = [*keys, *[REPORT] * walking.reports]
        words = [*choice.words, *(word for key in asked for word in ("--run", key))]
        words += [] if walking.until is None else ["--until", walking.until.value]
        just_those = shlex.join(["ragcun", "reproduce", *words])
        self._progress.note(f"not done: {', '.join(keys)}; for just those: {just_those}")

    def _result(self, choice: Choice, plan: PaperPlan, runs: Sequence[Run]) -> Reproduced:
        if is_writable(self.workspace.reports):  # a workspace of others is shown all the same
            write_atomically(self.workspace.last_report, f"{plan.folder}\n")
        rows = gather(runs, self._road, self._runner, reporting.columns_of(plan))
        parts = [reporting.Part(plan.name, rows, plan)]
        tables = reporting.tables_of(parts)
        return Reproduced(
            answers=reporting.answers_of(parts),
            tables=tables,
            models=[(run.label, run.folder / paths.MODEL) for run in self._trained(runs)],
            folder=self.workspace.report(plan.folder),
            next_steps=next_steps(
                *(plan, rows, self.workspace.root),
                whole=replace(choice, seeds=None, experiments=None, references=None).words,
            ),
            document=partial(self._document, tables, parts),
        )

    def _clean(self, runs: Sequence[Run], *, dry_run: bool) -> dict[str, Any]:
        every = [*runs, *runs_on_disk(self.workspace)[0]]
        bases = map(self._place.encoder, {run.profile.encoder for run in every})
        known = [each for base in bases if base is not None for each in base.digests().values()]
        found = Inventory(self.workspace, every, known).remains()
        rows = [one.row() for one in found]
        going = [at for at, one in enumerate(found) if one.state in REMOVED]
        size = sum(rows[at]["bytes"] for at in going)
        if going and not dry_run:
            if not self._consent.ask(f"Remove {len(going)} of {len(rows)}, {size / 1e6:,.1f} MB?"):
                raise RagcunError("nothing was removed", hint="the same command with --yes")
            for at in going:
                rows[at]["state"] = found[at].remove()
        seconds = sum(found[at].seconds or 0.0 for at in going)
        return {"remains": rows, "bytes": size, "seconds": seconds}

    def _trained(self, runs: Sequence[Run]) -> list[Run]:
        trained = [run for run in runs if run.reference is None]
        return [run for run in trained if self._runner.is_current(self._road.trainings.task(run))]

    def _document(self, tables: Sequence[Table], parts: Sequence[reporting.Part]) -> str:
        figures = reporting.figures_of(parts, self._road, self._runner)
        return render(tables, figures, "json", title=parts[0].title)

    def _refuse(self, runs: Sequence[Run], task: Task) -> None:
        """Pass if a task could run where these runs are computed."""
        own = [run for run in runs if run.folder == task.folder]
        self._place.refuse_device(own, {task.stage})
        walk.refuse_absent([task], self._road)
        walk.refuse_unfit([task], self._runner)
