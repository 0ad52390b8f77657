"""What `reproduce --dry-run` says: what of a plan is done, would run or cannot, and its cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Machine, Workload
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import runs_of, runs_on_disk
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.errors import RagcunError
from ragcun_cli.spec.manifest import Manifest, StageRecord
from ragcun_cli.spec.paths import MANIFEST
from ragcun_cli.spec.plan import PaperPlan

STATES = CURRENT, TO_RUN, BLOCKED = "current", "to run", "blocked"
STAGE_KINDS = ("data", "mine", "train", "search, eval", "isotropy", "report")
SIZES = ("download_bytes", "disk_bytes", "draft_bytes", "ram_bytes", "gpu_bytes")
SHOWN_SIZES = dict(zip([*SIZES[:2], *SIZES[3:]], ("download", "disk", "RAM", "GPU"), strict=True))
TELLING = 10.0
"""Guessed seconds of finished stages from which on their time corrects the other guesses."""
LONG = 2 * 86_400
"""Seconds from which on a GPU is spoken of where there is none."""
ORIGINAL = {
    "publication_minimum": "10 to 12 days on one T4, about $100",
    "publication": "15 to 18 days on one T4, about $150, or 6 days on three GPUs, about $200",
}
"""The original plan's own estimates of its minimum and of its complete experiment."""


def priced(tasks: Sequence[Task], road: Road, machine: Machine | None = None) -> list[Task]:
    """Tasks in the order they run with their work and seconds on this machine, or on another.

    What several share is the first one's work. A rate is what finished stages of the same kind,
    base and device took over what was guessed of them, whichever of the workspace's runs they are
    of.
    """
    machine, kept, done = machine or road.place.machine, road.place.cache_bytes, dict[str, float]()
    took: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for task, record in _finished(tasks, road):
        guess, pair = _whole(task, done, kept).time(machine), took[task.stage, task.work.base]
        if machine.is_of(record.device):
            pair[0] += max(record.seconds, record.details.get("training_seconds") or 0.0)
            pair[1] += guess
    if not any(folder.exists() for folder in road.place.workspace.caches):
        done = {}  # what was kept is gone
    found = []
    for task in tasks:
        work, (seconds, guess) = _whole(task, done, kept), took[task.stage, task.work.base]
        telling = guess > TELLING  # of less, what no guess is made of takes most
        time = work.time(machine) * (seconds / guess if telling else 1.0)
        found.append(replace(task, work=work, seconds=time, measured=telling))
    return found


def _whole(task: Task, done: dict[str, float], kept: float) -> Workload:
    """The work of a task, and what of the shared work no earlier one has done and kept."""
    work = task.work
    for name, once in task.work.shared.items():
        outputs = once.disk_bytes if name.startswith(estimate.OUTPUTS) else 0.0
        fits = sum(done.values()) + outputs <= kept
        if name not in done:
            work += once if fits else replace(once, disk_bytes=0.0)
            done |= {name: outputs} if fits else {}
    return work


def _finished(tasks: Sequence[Task], road: Road) -> Iterator[tuple[Task, StageRecord]]:
    """Stages of all runs of the workspace that are not to run, with their records."""
    to_come, known = {task.identity for task in tasks}, [*tasks]
    for run in runs_on_disk(road.place.workspace)[0]:
        with suppress(RagcunError):  # of a data set that nothing here can bring
            names = run.profile.evaluation.datasets
            known += [task for name in names for task in road.evaluations.tasks(run, name)]
            known += filter(None, [road.isotropies.task(run)])
    for task in with_needs(known):
        record = Manifest.load(task.folder / MANIFEST).stages.get(task.key)
        if record is not None and task.identity not in to_come:
            yield task, record


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
        RagcunError: there are no figures of such a GPU.
    """
    machine = estimate.machine_of(gpu) if gpu else road.place.machine
    every = with_needs(tasks)
    stale = {task.identity: one for task in every if (one := runner.stale(task))}
    pending = [task for task in every if task.identity in stale]
    blocked = _blocked(pending, refuse)
    pending.sort(key=lambda task: task.identity in blocked)  # others do what they would have
    stages = [_named(task, CURRENT) for task in every if task.identity not in stale]
    for task in priced(pending, road, machine):
        why, old = blocked.get(task.identity), stale[task.identity]
        notes = [task.work.advice(machine), old.why * (old.kind in ("changed", "damaged"))]
        named = _named(task, BLOCKED if why else TO_RUN, why or old.why)
        costs = _costs(task, machine, price) | {"note": "; ".join(filter(None, notes))}
        stages.append(named | costs)
    found = {kind: _total([one for one in stages if one["stage"] in kind]) for kind in STAGE_KINDS}
    found["in all"] = _total(stages)
    ready = [task for task in pending if task.identity not in blocked]
    notes = _notes(plan, stages, machine) + _beyond_the_cache(ready, road.place.cache_bytes)
    runs, sets = runs_of(plan, road.place.workspace), road.place.sets
    pairs = {(name, run.profile.encoder) for run in runs for name in run.profile.named_datasets}
    notes += sorted(filter(None, {sets.cut_note(*pair) for pair in pairs}))
    money = ", ".join(f"{kind} {one['money']:,.2f}" for kind, one in found.items())
    notes += [f"at {price} an hour: {money}"] * (price is not None)
    return {"plan": plan.name, "on": machine.name, "kinds": found, "notes": notes, "stages": stages}


def _named(task: Task, state: str, why: str | None = None) -> dict[str, Any]:
    named = {"stage": task.stage.value, "what": task.label, "size": task.size}
    return {**named, "state": state, "why": why}


def _costs(task: Task, machine: Machine, price: float | None) -> dict[str, Any]:
    work, gpu = task.work, task.work.held_bytes * (machine.memory > 0)
    ram = work.ram_bytes + work.held_bytes - gpu
    sizes = (work.download_bytes, work.disk_bytes, work.draft_bytes, ram, gpu)
    costs = dict(zip(SIZES, map(round, sizes), strict=True))
    rate = "measured here" if task.measured else "guessed"
    money = task.seconds / 3600 * (price or 0.0)
    return {"seconds": round(task.seconds, 3), "money": money, "rate": rate, **costs}


def _blocked(
    pending: Sequence[Task], refuse: Callable[[Task], None]
) -> dict[tuple[object, str], str]:
    """Why stages cannot run, by identity: what they lack, or a stage that they rest on lacks."""
    found: dict[tuple[object, str], str] = {}
    for task in pending:
        try:
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
    found: dict[str, Any] = {s: sum(one["state"] == s for one in stages) for s in STATES}
    found |= {name: sum(one[name] for one in run) for name in ("seconds", "money", *SIZES[:2])}
    found |= {name: max((one[name] for one in run), default=0) for name in SIZES[2:]}
    return found | {"disk_bytes": found["disk_bytes"] + found["draft_bytes"]}


def _notes(plan: PaperPlan, stages: Sequence[Mapping[str, Any]], machine: Machine) -> list[str]:
    """Sentences for below the summary."""
    run = [one for one in stages if one["state"] == TO_RUN]
    notes: dict[str, list[str]] = {}
    for one in stages:
        if why := f"blocked: {one['why']}" if one["state"] == BLOCKED else one.get("note"):
            notes.setdefault(why, []).append(one["what"])
    said = [f"{names[0]}{' and others' * (len(names) > 1)}: {w}" for w, names in notes.items()]
    guessed = sum(one["rate"] == "guessed" for one in run)
    rates = f"{len(run) - guessed:,} by rates measured here, {guessed:,} guessed"
    network = f"downloads at {estimate.DOWNLOAD_RATE / 1e6:.0f} MB a second"
    said += [f"{machine.name}, one stage after the other: {rates}, {network}"] * bool(run)
    if sum(one["seconds"] for one in run) > LONG and not machine.memory:
        said.append(f"no GPU is here, and this is work for one: {plan.command} --dry-run --gpu t4")
    theirs = f"the original plan's own estimates, of one seed: {ORIGINAL.get(plan.name)}, 35 GB"
    return said + [f"{theirs} of disk"] * (plan.name in ORIGINAL)


def _beyond_the_cache(tasks: Sequence[Task], kept: float) -> list[str]:
    """Say that outputs of frozen bases will be computed more than once, where they will."""
    first = [works for task in reversed(tasks) for works in task.work.shared.items()]
    sizes = {name: once.disk_bytes for name, once in first if name.startswith(estimate.OUTPUTS)}
    size, room = sum(sizes.values()) / 1e9, kept / 1e9
    more = f"{room:.0f} GB are kept and the others computed anew each time: --cache-gb {size:.0f}"
    return [f"outputs of frozen bases are {size:.0f} GB, of which {more}"] * (size > room)


def summary(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of a plan by kind of stage; columns in which nothing stands are left out."""
    every = [["stages", *STATES, "time", *SHOWN_SIZES.values()]]
    for kind, one in found["kinds"].items():
        counts = [str(one[state] or "") for state in STATES]
        every += [[kind, *counts, *_cells(one)]] * any(counts)
    filled = [column for column in zip(*every, strict=True) if any(column[1:])]
    heads, *rows = ([*row] for row in zip(*filled, strict=True))
    return heads, rows


def every_stage(found: Mapping[str, Any]) -> list[list[str]]:
    """State of each stage, and in words what it is, takes and lacks."""
    rows = []
    for one in found["stages"]:
        time, *sizes = _cells(one)
        heads = zip(sizes, SHOWN_SIZES.values(), strict=True)
        costs = [time, *(f"{size} GB {head}" for size, head in heads if size)]
        said = filter(None, [one["size"], *costs, one.get("rate"), one.get("note"), one["why"]])
        rows.append([one["state"], f"{one['what']}: {', '.join(said)}"])
    return rows


def _cells(one: Mapping[str, Any]) -> list[str]:
    """Time and, in GB, sizes of a stage or a total; nothing of what is nothing."""
    sizes = [one.get(name, 0) / 1e9 for name in SHOWN_SIZES]
    guess = estimate.duration(one.get("seconds", 0.0)).removeprefix("about ")
    time = guess.replace("under a minute", "< 1 min") * bool(one.get(TO_RUN, "seconds" in one))
    cells = [f"{size:,.1f}" if size > 0.05 else "" for size in sizes]
    return [time, *cells]
