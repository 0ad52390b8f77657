"""The runs of a plan, and the tasks that stand behind its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.report.tasks import report_task
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.dry_run import priced
from ragcun_cli.pipeline.reproduce.launch.jobs import RunJob, job_name
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run, runs_of, trials_of
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.plan import PaperPlan

REPORT = "report"
"""What names the report among the runs of a plan."""
SHARED = "data and negatives"

_WALKED = [Stage.TRAIN, Stage.SEARCH, Stage.EVAL, Stage.ISOTROPY, Stage.REPORT]


@dataclass(frozen=True)
class PlanWork:
    """A plan in one workspace, its tuned arms with the values that their trials chose so far."""

    plan: PaperPlan
    runs: Sequence[Run]
    """The rows of its tables."""
    trials: Mapping[str, Sequence[Run]]
    """Name of a tuned arm -> what is tried for it."""
    bases: Sequence[Run]
    """The untouched base of each experiment, a row or not."""
    sets: Mapping[Path, Sequence[str]]
    """Folder of a run -> the sets to test it on."""
    road: Road
    runner: Runner

    @classmethod
    def of(cls, plan: PaperPlan, road: Road, runner: Runner, progress: Progress) -> PlanWork:
        """What there is to do for a plan."""
        workspace = road.place.workspace
        plan = walk.with_scores(plan, road, runner)
        runs = runs_of(plan, workspace)
        bases = [Run(profile, None, "untouched", workspace) for profile in plan.experiments]
        sets: dict[Path, Sequence[str]] = {run.folder: () for run in bases}
        sets |= walk.datasets_of(runs, road.place, progress)
        return cls(plan, runs, trials_of(plan, workspace), bases, sets, road, runner)

    @property
    def every(self) -> list[Run]:
        """The trials, then the rows."""
        return [*(run for runs in self.trials.values() for run in runs), *self.runs]

    def is_settled(self, run: Run) -> bool:
        """Whether the values of a row are known: those of a tuned arm once its trials are done."""
        best = {arm.name: arm.best for arm in self.plan.tuned}
        return run.trial is not None or None not in [best[name] for name in self._arms_of(run)]

    def trials_for(self, run: Run) -> list[Run]:
        """What is tried for a row."""
        return [trial for name in self._arms_of(run) for trial in self.trials[name]]

    def _arms_of(self, run: Run) -> list[str]:
        """The tuned arms that a row rests on: all, if it is the head that they start from."""
        every = run.reference == "untouched_start"
        own = None if run.reference else run.name
        return [name for name in self.trials if every or name == own]

    def named(self, keys: Sequence[str]) -> list[Run]:
        """The runs of some keys, or all; of a base that is no row where it is named.

        Raises:
            WorkspaceError: there is no such run.
        """
        first = reversed(self.bases)  # what describes a base, as everywhere
        known = {run.folder: run for run in (*first, *self.every)}.values()
        there = [*(run.key for run in known), REPORT]
        for key in keys:
            if key not in there:
                raise WorkspaceError(
                    f"'{key}' is no run of {self.plan.name}; these are: {', '.join(there)}",
                    hint=f"{self.plan.command} --dry-run",
                )
        return [run for run in known if run.key in keys] if keys else self.every

    def tasks(self, runs: Sequence[Run], last: Stage = Stage.REPORT) -> list[Task]:
        """What stands behind the tables of some runs, up to a stage; trials are only trained."""
        rows = [run for run in runs if run.trial is None]
        stages = _WALKED[: _WALKED.index(last) + 1] if last in _WALKED else [Stage.MINE]
        tasks = [
            task
            for stage in stages
            for task in walk.stage_tasks(
                stage, runs if stage in (Stage.MINE, Stage.TRAIN) else rows, self.road, self.sets
            )
        ]
        if last is not Stage.DATA:
            return tasks
        tasks += walk.stage_tasks(Stage.EVAL, rows, self.road, self.sets)
        return [task for task in with_needs(tasks) if task.stage is Stage.DATA]

    def of_absent_sets(self, runs: Sequence[Run], last: Stage) -> list[Task]:
        """What could be tested if sets were here that need a licence."""
        if last not in _WALKED[1:]:
            return []
        rows = [run for run in runs if run.trial is None]
        every = {run.folder: run.profile.evaluation.datasets for run in rows}
        return walk.stage_tasks(Stage.EVAL, rows, self.road, every)

    def report(self) -> Task:
        """Write the tables and figures of what there is."""
        there = [task for task in self.tasks(self.every) if self.runner.is_current(task)]
        return report_task(self.plan, self.runs, there, self.road, self.runner)

    def groups(self) -> dict[str, list[Task]]:
        """The tasks that runs share, those of each run by its key, and the report."""
        own: dict[Path, list[Task]] = {run.folder: [] for run in self.every}
        shared: list[Task] = []
        tasks = with_needs(self.tasks(self.every))
        pending = priced(self.runner.pending(tasks), self.road)
        guessed = {task.identity: task for task in pending}
        for task in tasks:
            own.get(task.folder, shared).append(guessed.get(task.identity, task))
        keys = {run.folder: run.key for run in self.every}
        groups = {keys[folder]: tasks for folder, tasks in own.items()}
        return {SHARED: shared} | groups | {REPORT: [self.report()]}

    def jobs(
        self, runs: Sequence[Run], *, words: Sequence[str], last: Stage, checked: Set[Path]
    ) -> list[RunJob]:
        """A job for each run that is not done, after those that it waits for.

        Those are its mining, the trials of its arm, and the check of its base.

        Args:
            runs: to do.
            words: that all commands begin with.
            last: stage that is walked to.
            checked: folders of bases that are held against published scores before anything is
                trained, and have yet to be evaluated for that.
        """
        jobs: dict[str, RunJob] = {}
        pending = self.runner.pending

        def add(name: str, run: Run, until: Stage, *after: str, on_gpu: bool = True) -> str:
            typed = (*words, "--run", run.key, "--until", until.value)
            tasks = pending(self.tasks([run], until)) if on_gpu else []
            held = max((task.work.held_bytes for task in tasks), default=0.0)
            jobs.setdefault(name, RunJob(name, typed, after, on_gpu, round(held)))
            return name

        # A base to its own end, and what is made of others' rankings after them.
        for run in sorted(runs, key=lambda run: (run.reference is None, bool(run.parts))):
            if not pending(self.tasks([run], last)):
                continue
            base = Run(run.profile, None, "untouched", run.workspace)
            after = [job_name(part.key) for part in run.parts]
            if run.seed is not None and base.folder in checked:
                after.append(add(job_name(base.key), base, Stage.EVAL))
            if run.seed is not None and pending([mine := self.road.minings.task(run)]):
                name = f"mine-{mine.folder.parent.name[:4]}-{run.seed}"
                after.append(add(name, run, Stage.MINE, on_gpu=mine.fetch is not None))
            if not self.is_settled(run):
                after += [job_name(trial.key) for trial in self.trials_for(run)]
            if last not in (Stage.DATA, Stage.MINE):
                add(job_name(run.key), run, last, *after, on_gpu=run.embeds)
        return list(jobs.values())
