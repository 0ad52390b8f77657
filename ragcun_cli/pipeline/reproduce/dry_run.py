"""What `reproduce --dry-run` says: what of a plan is done, would run or cannot, and its cost."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ragcun_cli.pipeline.data.sources import absent_error
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Machine, Workload
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import runs_on_disk
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.errors import RagcunError
from ragcun_cli.spec.manifest import Manifest, Stage, StageRecord
from ragcun_cli.spec.paths import MANIFEST
from ragcun_cli.spec.plan import PaperPlan

STATES = CURRENT, TO_RUN, BLOCKED = "current", "to run", "blocked"
SEARCH = "search, eval"
SIZES = ("download_bytes", "disk_bytes", "draft_bytes", "ram_bytes", "gpu_bytes")
COSTS = ("time", "download", "disk", "RAM", "GPU", "money")
LONG = 2 * 86_400
"""Seconds from which on a GPU is spoken of where there is none."""
ORIGINAL = {
    "publication_minimum": "10 to 12 days on one T4, about $100",
    "publication": "15 to 18 days on one T4, about $150, or 6 days on three GPUs, about $200",
}
"""The original plan's own estimates of its minimum and of its complete experiment."""


def priced(tasks: Iterable[Task], road: Road, machine: Machine | None = None) -> list[Task]:
    """Tasks in the order they run with their work and seconds on this machine, or on another.

    What several share is the first one's work. A rate is what finished stages of the same kind,
    base and device took over what was guessed of them, whichever of the workspace's runs they are
    of.
    """
    machine, tasks = machine or road.place.machine, list(tasks)
    done: dict[str, float] = {}
    took: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for task, record in _finished(tasks, road):
        guess = _whole(task, done).time(machine)
        if machine.is_of(record.device):
            pair = took[task.stage, task.work.base]
            pair[0] += max(record.seconds, record.details.get("training_seconds") or 0.0)
            pair[1] += guess
    if not any(folder.exists() for folder in road.place.workspace.caches):
        done = {}  # what was kept is gone
    found = []
    for task in tasks:
        seconds, guess = took.get((task.stage, task.work.base), (1.0, 0.0))
        work = _whole(task, done)
        time = work.time(machine) * (seconds / guess if guess else 1.0)
        found.append(replace(task, work=work, seconds=time, measured=guess > 0))
    return found


def _whole(task: Task, done: dict[str, float]) -> Workload:
    """The work of a task, and what of the shared work no earlier one has done and kept."""
    work = task.work
    for name, once in task.work.shared.items():
        outputs = once.disk_bytes if name.startswith(estimate.OUTPUTS) else 0.0
        fits = sum(done.values()) + outputs <= estimate.CACHE_BYTES
        if name not in done:
            work += once if fits else replace(once, disk_bytes=0.0)
            done |= {name: outputs} if fits else {}
    return work


def _finished(tasks: Sequence[Task], road: Road) -> list[tuple[Task, StageRecord]]:
    """Stages of all runs of the workspace that are not to run, with their records, oldest first."""
    to_come, known = {task.identity for task in tasks}, [*tasks]
    for run in runs_on_disk(road.place.workspace)[0]:
        with suppress(RagcunError):  # of a data set that nothing here can bring
            names = run.profile.evaluation.datasets
            known += [task for name in names for task in road.evaluations.tasks(run, name)]
            known += [task for task in [road.isotropies.task(run)] if task is not None]
    records = [
        (task, Manifest.load(task.folder / MANIFEST).stages.get(task.key))
        for task in with_needs(known)
        if task.identity not in to_come
    ]
    found = [(task, record) for task, record in records if record is not None]
    return sorted(found, key=lambda pair: pair[1].finished)


def planned(
    plan: PaperPlan,
    tasks: Sequence[Task],
    road: Road,
    runner: Runner,
    refuse: Callable[[Task], None],
    *,
    gpu: str | None = None,
    price: float | None = None,
) -> dict[str, Any]:
    """What of a plan is current, to run or blocked, and what that takes, as JSON.

    Args:
        plan: that would be reproduced.
        tasks: that it rests on, those on data sets that need a licence among them.
        road: of its runs.
        runner: knows what is current.
        refuse: raises where a task could not run here.
        gpu: short name of a card that is not this machine's.
        price: of an hour, in any currency.

    Raises:
        RagcunError: there are no figures of such a GPU, or the price is no number.
    """
    machine = estimate.machine_of(gpu) if gpu else road.place.machine
    if price is not None and not math.isfinite(price):
        raise RagcunError("--price-per-hour is no number", hint="--price-per-hour 0.35")
    every = with_needs(tasks)
    stale = {task.identity: one for task in every if (one := runner.stale(task))}
    pending = [task for task in every if task.identity in stale]
    blocked = _blocked(pending, road, refuse)
    pending.sort(key=lambda task: task.identity in blocked)  # others do what they would have
    stages = [_as_json(task, CURRENT) for task in every if task.identity not in stale]
    for task in priced(pending, road, machine):
        state, old = BLOCKED if task.identity in blocked else TO_RUN, stale[task.identity]
        costs = _costs(task, machine, price or 0.0)
        if old.kind in ("changed", "damaged"):
            costs["note"] = f"{costs['note']} {old.why}".strip()
        stages.append(_as_json(task, state, blocked.get(task.identity, old.why)) | costs)
    kinds = {stage: str(stage) for stage in Stage} | dict.fromkeys(("search", "eval"), SEARCH)
    found = {
        kind: _total([one for one in stages if kinds[one["stage"]] == kind])
        for kind in dict.fromkeys(kinds.values())
    }
    found["in all"] = whole = _total(stages)
    ready = [task for task in pending if task.identity not in blocked]
    notes = _notes(plan, stages, whole["seconds"], machine) + _beyond_the_cache(ready)
    return {"plan": plan.name, "on": machine.name, "kinds": found, "notes": notes, "stages": stages}


def _as_json(task: Task, state: str, why: str | None = None) -> dict[str, Any]:
    named = {"stage": task.stage.value, "what": task.label, "size": task.size}
    return {**named, "state": state, "why": why}


def _costs(task: Task, machine: Machine, price: float) -> dict[str, Any]:
    work, gpu = task.work, task.work.held_bytes * (machine.memory > 0)
    ram = work.ram_bytes + work.held_bytes - gpu
    sizes = (work.download_bytes, work.disk_bytes, work.draft_bytes, ram, gpu)
    return {
        **dict(zip(SIZES, map(round, sizes), strict=True)),
        "seconds": round(task.seconds, 3),
        "money": task.seconds / 3600 * price,
        "rate": "measured here" if task.measured else "guessed",
        "note": work.advice(machine),
    }


def _blocked(
    pending: Sequence[Task], road: Road, refuse: Callable[[Task], None]
) -> dict[tuple[object, str], str]:
    """Why stages cannot run, by identity: what they lack, or a stage that they rest on lacks."""
    found: dict[tuple[object, str], str] = {}
    for task in pending:
        try:
            if task.stage is Stage.DATA and road.place.sets.is_absent(task.folder.name):
                raise absent_error([task.folder.name])
            refuse(task)
        except RagcunError as error:
            found[task.identity] = f"{error}: {error.hint}"
        for need in task.needs:
            if need.identity in found:
                found.setdefault(task.identity, found[need.identity])
    return found


def _total(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of those that would run times and sizes summed up, and memory at its highest."""
    run = [one for one in stages if one["state"] == TO_RUN]
    found: dict[str, Any] = {
        state: sum(one["state"] == state for one in stages) for state in STATES
    }
    found |= {name: sum(one[name] for one in run) for name in ("seconds", "money", *SIZES[:2])}
    found |= {name: max((one[name] for one in run), default=0) for name in SIZES[2:]}
    return found | {"disk_bytes": found["disk_bytes"] + found["draft_bytes"]}


def _notes(
    plan: PaperPlan, stages: Sequence[Mapping[str, Any]], seconds: float, machine: Machine
) -> list[str]:
    """Sentences for below the summary."""
    run = [one for one in stages if one["state"] == TO_RUN]
    notes: dict[str, list[str]] = {}
    for one in stages:
        if why := f"blocked: {one['why']}" if one["state"] == BLOCKED else one.get("note"):
            notes.setdefault(why, []).append(one["what"])
    said = [f"{names[0]}{' and others' * (len(names) > 1)}: {w}" for w, names in notes.items()]
    measured = sum(one["rate"] != "guessed" for one in run)
    rates = f"the rates of {measured:,} stages measured here, of {len(run) - measured:,} guessed"
    network = f"downloads at {estimate.DOWNLOAD_RATE / 1e6:.0f} MB a second"
    said += [f"{machine.name}, one stage after the other, {rates}, {network}"] * bool(run)
    if seconds > LONG and not machine.memory:
        said.append(f"no GPU is here, and this is work for one: {plan.command} --dry-run --gpu t4")
    if plan.name in ORIGINAL:
        theirs = ORIGINAL[plan.name]
        said.append(f"the original plan's own estimates, of one seed: {theirs}, 35 GB of disk")
    return said


def _beyond_the_cache(tasks: Sequence[Task]) -> list[str]:
    """Say that outputs of frozen bases will be computed more than once, where they will."""
    first = [works for task in reversed(tasks) for works in task.work.shared.items()]
    sizes = {name: once.disk_bytes for name, once in first if name.startswith(estimate.OUTPUTS)}
    size, room = sum(sizes.values()) / 1e9, estimate.CACHE_BYTES / 1e9
    more = f"{room:.0f} GB are kept and the others computed anew each time: --cache-gb {size:.0f}"
    return [f"outputs of frozen bases are {size:.0f} GB, of which {more}"] * (size > room)


def summary(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of a plan by kind of stage; columns in which nothing stands are left out."""
    rows = [
        [kind, *(str(one[state] or "") for state in STATES), *_cells(one)]
        for kind, one in found["kinds"].items()
        if any(one[state] for state in STATES)
    ]
    heads = ["stages", *STATES, *COSTS]
    filled = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    return [heads[at] for at in filled], [[row[at] for at in filled] for row in rows]


def every_stage(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of all stages."""
    rows = []
    for one in found["stages"]:
        costs = [f"{cost} {what}" for what, cost in zip(COSTS, _cells(one), strict=True) if cost]
        said = [one["size"], *costs, one.get("rate"), one.get("note")]
        rows.append([one["what"], one["state"], ", ".join(filter(None, said)), one["why"] or ""])
    return ["stage", "state", "estimate", "why"], rows


def _cells(one: Mapping[str, Any]) -> list[str]:
    """Of a stage or a total, as `COSTS` has them; nothing of what is nothing."""
    sizes = [one.get(name, 0) for name in SIZES if name != "draft_bytes"]
    shown = [f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" for size in sizes]
    time = estimate.duration(one["seconds"]).removeprefix("about ") if one.get("seconds") else ""
    money = f"{one['money']:,.2f}" if one.get("money") else ""
    filled = [text * (size > 5e5) for text, size in zip(shown, sizes, strict=True)]
    return [time, *filled, money]
