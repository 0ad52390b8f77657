"""What `reproduce --dry-run` says: what of a plan is done, would run or cannot, and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ragcun_cli.pipeline.data.sources import absent_error
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.costs import priced
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Machine
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.errors import RagcunError
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.plan import PaperPlan

STATES = CURRENT, TO_RUN, BLOCKED = "current", "to run", "blocked"
COSTS = ("time", "download", "disk", "RAM", "GPU", "money")
LONG = 2 * 86_400
"""Seconds from which on a GPU is spoken of where there is none."""

ORIGINAL = {
    "publication_minimum": "10 to 12 days on one T4, about $100",
    "publication": "15 to 18 days on one T4, about $150, or 6 days on three GPUs, about $200",
}
"""The original plan's own estimates of its minimum and of its complete experiment."""


def planned(
    plan: PaperPlan,
    runs: Sequence[Run],
    tasks: Sequence[Task],
    road: Road,
    runner: Runner,
    *,
    gpu: str | None = None,
    price: float | None = None,
) -> dict[str, Any]:
    """What of a plan is current, to run or blocked, and what that takes, as JSON.

    Args:
        plan: that would be reproduced.
        runs: its rows.
        tasks: that it rests on, those on data sets that need a licence among them.
        road: of the runs.
        runner: knows what is current.
        gpu: short name of a card that is not this machine's.
        price: of an hour, in any currency.

    Raises:
        RagcunError: there is no such device or GPU, or the price is no number.
    """
    machine = estimate.machine_of(gpu) if gpu else road.place.machine
    if gpu is None:
        road.place.refuse_device(runs, set())
    if price is not None and not math.isfinite(price):
        raise RagcunError("--price-per-hour is no number", hint="--price-per-hour 0.35")
    every = with_needs(tasks)
    pending = [task for task in every if not runner.is_current(task)]
    blocked = _blocked(pending, [] if gpu else runs, road, runner)
    pending.sort(key=lambda task: task.identity in blocked)  # others do what they would have
    costs = {task.identity: asdict(task.cost) for task in priced(pending, road, machine)}
    stages = []
    for task in [task for task in every if task.identity not in costs] + pending:
        stale, why = runner.stale(task), blocked.get(task.identity)
        state = CURRENT if stale is None else TO_RUN if why is None else BLOCKED
        one = {"stage": task.stage.value, "what": task.label, "size": task.size, "state": state}
        why = why or (None if stale is None else stale.why)
        stages.append(one | {"why": why} | costs.get(task.identity, {}))
    kinds = {stage: "search, eval" if stage in ("search", "eval") else stage for stage in Stage}
    found = {
        kind: _total([one for one in stages if kinds[one["stage"]] == kind])
        for kind in dict.fromkeys(map(str, kinds.values()))
    }
    found["in all"] = _total(stages)
    for one in (*stages, *found.values()):
        if price is not None and "seconds" in one:
            one["money"] = round(one["seconds"] / 3600 * price, 2)
    notes = _notes(plan, stages, found["in all"]["seconds"], machine)
    return {"plan": plan.name, "on": machine.name, "kinds": found, "notes": notes, "stages": stages}


def _blocked(
    pending: Sequence[Task], runs: Sequence[Run], road: Road, runner: Runner
) -> dict[tuple[object, str], str]:
    """Why stages cannot run, by identity: what they lack, or a stage that they rest on lacks."""
    found: dict[tuple[object, str], str] = {}
    of = {run.folder: run for run in runs}
    for task in pending:
        try:
            if task.stage is Stage.DATA and road.place.sets.is_absent(task.folder.name):
                raise absent_error([task.folder.name])
            if task.folder in of:
                road.place.refuse_device([of[task.folder]], {task.stage})
            walk.refuse_unfit([task], runner)
        except RagcunError as error:
            found[task.identity] = f"{error}: {error.hint}"
        for need in task.needs:
            if need.identity in found:
                found.setdefault(task.identity, found[need.identity])
    return found


def _total(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of those that would run times and sizes summed up, and memory at its highest."""
    run = [one for one in stages if one["state"] == TO_RUN]
    most = {name: max((one[name] for one in run), default=0) for name in ("ram_bytes", "gpu_bytes")}
    summed = ("seconds", "download_bytes", "disk_bytes")
    sums = {name: sum(one[name] for one in run) for name in summed}
    sums["disk_bytes"] += max((one["draft_bytes"] for one in run), default=0)
    return {state: sum(one["state"] == state for one in stages) for state in STATES} | sums | most


def _notes(
    plan: PaperPlan, stages: Sequence[Mapping[str, Any]], seconds: float, machine: Machine
) -> list[str]:
    """Sentences for below the summary."""
    run = [one for one in stages if one["state"] == TO_RUN]
    notes: dict[str, list[str]] = {}
    for one in stages:
        if said := one["why"] if one["state"] == BLOCKED else one.get("note"):
            notes.setdefault(f"{one['state']}: {said}", []).append(one["what"])
    said = [f"{names[0]} and {len(names) - 1} more {why}" for why, names in notes.items()]
    measured = sum(one["rate"] != "guessed" for one in run)
    rates = f"the rates of {measured:,} stages measured here, of {len(run) - measured:,} guessed"
    network = f"downloads at {estimate.DOWNLOAD_RATE / 1e6:.0f} MB a second"
    said += [f"{machine.name}, one stage after the other, {rates}, {network}"] * bool(run)
    if seconds > LONG and not machine.is_gpu:
        said.append(f"no GPU is here, and this is work for one: {plan.command} --dry-run --gpu t4")
    if plan.name in ORIGINAL:
        theirs = ORIGINAL[plan.name]
        said.append(f"the original plan's own estimates, of one seed: {theirs}, 35 GB of disk")
    return said


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
    sizes = [one.get(f"{what}_bytes") or 0 for what in ("download", "disk", "ram", "gpu")]
    shown = [f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" for size in sizes]
    time = estimate.duration(one["seconds"]).removeprefix("about ") if one.get("seconds") else ""
    money = f"{one['money']:,.2f}" if one.get("money") else ""
    return [time, *(text * (size > 5e5) for text, size in zip(shown, sizes, strict=True)), money]
