"""How far the runs of a plan are, from what lies in the workspace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ragcun_cli.pipeline.reproduce.launch.jobs import job_name
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.attempts import record_of
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.running import Sign, signs_of_life
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.paths import Workspace

Queued = Mapping[str, tuple[str, str, str]]
"""Name of a job -> its number in the queue of a cluster, its state and the reason."""

COLUMNS = ("run", "state", "stages", "left", "now", "where")


@dataclass(frozen=True)
class RunStatus:
    """How far one run is."""

    run: str
    state: Literal["finished", "running", "queued", "failed", "waiting"]
    finished: int
    """Stages that are current."""
    stages: int
    why: str
    """What it failed with, or is queued for."""
    left: float
    """A guess of the seconds that all its stages will still take."""
    sign: Sign | None = None
    """Of the command that is at work on it."""

    @property
    def cells(self) -> tuple[str, ...]:
        """For people, in the order of `COLUMNS`."""
        sign, loss = self.sign, None if self.sign is None else self.sign.measured.get("loss")
        state = f"{self.state}: {self.why}" if self.why else self.state
        stages = f"{self.finished} of {self.stages}"
        left = "" if self.state == "finished" else estimate.duration(self.left)
        if sign is None:
            return self.run, state, stages, left, "", ""
        now = [sign.label.partition(" ")[0]]
        now += [f"{sign.done:,} of {sign.total:,} {sign.unit}"] if sign.total else []
        now += [] if loss is None else [f"loss {loss:.4g}"]
        now += [f"{sign.rate:,.1f}/s"] if sign.rate else []
        since = time.strftime("%m-%d %H:%M", time.localtime(sign.since))
        where = f"{sign.host}, process {sign.pid}, since {since}"
        return self.run, state, stages, left, ", ".join(now), where

    def to_json(self) -> dict[str, Any]:
        """The same as JSON; what is not known is None."""
        sign = self.sign
        return {
            **{name: getattr(self, name) for name in ("run", "state", "finished", "stages")},
            "why": self.why or None,
            "now": sign and sign.label,
            "done": sign and sign.done,
            "total": sign and sign.total,
            "unit": sign and (sign.unit or None),
            "loss": sign and sign.measured.get("loss"),
            "rate": sign and sign.rate,
            "seconds_left": round(self.left, 1),
            "host": sign and sign.host,
            "process": sign and sign.pid,
            "since": sign and sign.since,
        }


@dataclass(frozen=True)
class PlanStatus:
    """How far a plan is."""

    plan: str
    runs: Sequence[RunStatus]

    def __call__(self) -> list[dict[str, Any]]:
        """The same as JSON."""
        return [run.to_json() for run in self.runs]


def status_of(
    groups: Mapping[str, Sequence[Task]], workspace: Workspace, runner: Runner, queued: Queued
) -> list[RunStatus]:
    """How far groups of tasks are, each by its name; a run is one.

    Args:
        groups: name -> tasks.
        workspace: that they lie in; it may be a copy.
        runner: knows which are current.
        queued: jobs that wait on a cluster, by name.
    """
    signs = {sign.record: sign for sign in signs_of_life(workspace.root)}
    return [
        _status(name, tasks, workspace, runner, signs, queued.get(job_name(name)))
        for name, tasks in groups.items()
    ]


def _status(
    name: str,
    tasks: Sequence[Task],
    workspace: Workspace,
    runner: Runner,
    signs: Mapping[str, Sign],
    job: tuple[str, str, str] | None,
) -> RunStatus:
    pending = [task for task in tasks if not runner.is_current(task)]
    records = [record_of(task, workspace.root) for task in pending]
    sign = next((signs[record] for record in records if record in signs), None)
    at_work = sign.record if sign else None
    left = sum(t.seconds for t, r in zip(pending, records, strict=True) if r != at_work)
    failures = runner.failures(pending)
    state: Literal["finished", "running", "queued", "failed", "waiting"] = "waiting"
    why = ""
    if not pending:
        state = "finished"
    elif sign is not None:
        state, left = "running", left + (sign.left or 0)
    elif job is not None:
        state, why = "queued", f"job {job[0]}, {job[1]}" + (f" ({job[2]})" if job[2] else "")
    elif failures:
        state, why = "failed", next(iter(failures.values()))
    return RunStatus(name, state, len(tasks) - len(pending), len(tasks), why, left, sign)
