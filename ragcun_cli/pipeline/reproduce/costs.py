"""What each stage to come will cost here or on another machine, by what finished ones took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.estimate import Machine, Work, cost_of
from ragcun_cli.pipeline.stages.runs import runs_on_disk
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.errors import RagcunError
from ragcun_cli.spec.manifest import Manifest, StageRecord
from ragcun_cli.spec.paths import MANIFEST


def priced(tasks: Iterable[Task], road: Road, machine: Machine | None = None) -> list[Task]:
    """Tasks in the order they run with their costs on this machine, or on another.

    A rate is what finished stages of the same kind, base and device took over what was guessed of
    them, whichever of the workspace's runs they are of.
    """
    machine, tasks = machine or road.place.machine, list(tasks)
    done: set[str] = set()
    took: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for task, record in _finished(tasks, road):
        guess = _whole(task, done).time(machine)
        if machine.is_of(record.device):
            pair = took[task.stage, task.work.base]
            pair[0] += max(record.seconds, record.details.get("training_seconds") or 0.0)
            pair[1] += guess
    if not any(folder.exists() for folder in road.place.workspace.caches):
        done = set()  # what was kept is gone
    rates = {key: seconds / guess for key, (seconds, guess) in took.items() if guess}
    works = [(task, _whole(task, done)) for task in tasks]
    return [
        replace(task, cost=cost_of(work, machine, rates.get((task.stage, task.work.base))))
        for task, work in works
    ]


def _whole(task: Task, done: set[str]) -> Work:
    """The work of a task, and what of the shared work no earlier one has done."""
    new = [once for name, once in task.work.shared.items() if name not in done]
    done.update(task.work.shared)
    return sum(new, task.work)


def _finished(tasks: Sequence[Task], road: Road) -> list[tuple[Task, StageRecord]]:
    """Stages that are not to run, of all runs of the workspace, with their records, oldest first."""
    to_come, known = {task.identity for task in tasks}, [*tasks]
    for run in runs_on_disk(road.place.workspace)[0]:
        with suppress(RagcunError):  # of a data set that nothing here can bring
            names = run.profile.evaluation.datasets
            known += [task for name in names for task in road.evaluations.tasks(run, name)]
            known += [task for task in [road.isotropies.task(run)] if task is not None]
    records = (
        (task, Manifest.load(task.folder / MANIFEST).stages.get(task.key))
        for task in with_needs(known)
        if task.identity not in to_come
    )
    found = [(task, record) for task, record in records if record is not None]
    return sorted(found, key=lambda pair: pair[1].finished)
