"""A run as a command of its own, and what starts such commands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import Stage


@dataclass(frozen=True)
class RunJob:
    """One command."""

    name: str
    """Letters, digits, `.`, `_` and `-`; no other job of the plan has it."""

    words: tuple[str, ...]
    """What stands after `python -m ragcun_cli`."""

    after: tuple[str, ...] = ()
    """Names of jobs whose end it waits for."""

    on_gpu: bool = True
    gpu_bytes: int = 0
    """A guess of the memory of a GPU that it takes; 0 where none was made."""


@dataclass(frozen=True)
class Launched:
    """What became of some jobs."""

    submitted: Mapping[str, str] = field(default_factory=dict)
    """Name -> number in a queue that goes on without this command."""

    failed: Mapping[str, str] = field(default_factory=dict)
    """Name -> why, of those that ended while this command was there."""

    def __call__(self) -> dict[str, str]:
        """As JSON, the numbers of jobs in the queue."""
        return dict(self.submitted)


class Launcher(Protocol):
    """Starts jobs, each after those that it waits for."""

    def launch(self, jobs: Sequence[RunJob]) -> Launched:
        """Start all; how long that takes is the launcher's matter."""


def job_name(key: str) -> str:
    """Of the job of a run, by the run's key."""
    return key.replace(":", "-")


def jobs_of(
    runs: Sequence[Run],
    road: Road,
    runner: Runner,
    *,
    words: Sequence[str],
    last: Stage,
    checked: Collection[Path],
) -> list[RunJob]:
    """A job for each run, after those of the minings and of the bases that it waits for.

    Args:
        runs: that are not done.
        road: of their tasks.
        runner: knows which minings are done.
        words: that all commands begin with.
        last: stage that is walked to.
        checked: folders of bases that are held against published scores before anything is
            trained, and have yet to be evaluated for that.
    """
    jobs: dict[str, RunJob] = {}

    def add(name: str, run: Run, until: Stage, *after: str, on_gpu: bool = True) -> str:
        typed = (*words, "--run", run.key, "--until", until.value)
        jobs.setdefault(name, RunJob(name, typed, after, on_gpu))
        return name

    for run in runs:
        base = Run(run.profile, None, "untouched", run.workspace)
        after = []
        if run.seed is not None and base.folder in checked:
            after.append(add(job_name(base.key), base, Stage.EVAL))
        if run.seed is not None:
            mine = road.minings.task(run)
            if not runner.is_current(mine):
                name = f"mine-{mine.folder.parent.name[:4]}-{run.seed}"
                after.append(add(name, run, Stage.MINE, on_gpu=mine.fetch is not None))
        on_gpu = run.reference != "bm25"
        if last is not Stage.MINE:
            add(job_name(run.key), run, last, *after, on_gpu=on_gpu)
    return list(jobs.values())
