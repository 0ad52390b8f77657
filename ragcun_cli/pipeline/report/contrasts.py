"""The contrasts of a plan: which there are, and what the scores of its rows say of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ragcun_cli.core.rankings.contrasts import Array, Contrast, contrast
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Difference
from ragcun_cli.spec.plan import PlannedContrast

QUESTION = ("with_isotropy", "baseline_no_isotropy")
"""The arms whose difference the original plan asks about."""


@dataclass(frozen=True)
class Compared:
    """A contrast of two rows, or why there is none."""

    planned: PlannedContrast
    seeds: int
    """That both rows have on every set; 0 where neither has any."""
    asked: int
    """Of the row that has more."""
    found: Contrast | None = None
    by_set: Mapping[str, Contrast] = field(default_factory=dict)
    """Data set -> the contrast on it alone."""
    by_query: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Part of a set -> differences of the means over seeds."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of those parts."""
    why: str = ""
    """Why there is none."""


def planned_contrasts(
    contrasts: Sequence[PlannedContrast], rows: Sequence[ModelRow]
) -> list[PlannedContrast]:
    """The plan's own between rows that are there; by default those of the original plan."""
    names = [row.label for row in rows]
    if contrasts:
        return [one for one in contrasts if one.arm in names and one.against in names]
    trained = [row.label for row in rows if row.run.reference is None]
    base = "untouched" if "untouched" in names else names[0]
    found = [PlannedContrast(arm=name, against=base) for name in trained if name != base]
    if set(QUESTION) <= set(names):
        return [PlannedContrast(arm=QUESTION[0], against=QUESTION[1], primary=True), *found]
    return [one.model_copy(update={"primary": one is found[0]}) for one in found]


def compare(planned: PlannedContrast, rows: Sequence[ModelRow], sets: Sequence[str]) -> Compared:
    """What the scores of two rows on some sets say of a contrast."""
    arm, against = (
        next(row for row in rows if row.label == name) for name in (planned.arm, planned.against)
    )
    ours, theirs = (_complete(row, sets, planned.metric) for row in (arm, against))
    seeded = [row for row in (arm, against) if row.run.seed is not None]
    if None in ours:  # the same for every seed of the other
        ours = dict.fromkeys(theirs, ours[None])
    elif None in theirs:
        theirs = dict.fromkeys(ours, theirs[None])
    shared = sorted(ours.keys() & theirs.keys(), key=lambda seed: seed or 0)
    asked = max((len(row.seeds) for row in seeded), default=0)
    seeds = len(shared) if seeded else 0
    if not (shared and sets):
        return Compared(planned, seeds, asked, why="not measured")
    parts: dict[str, Array] = {}
    weights: dict[str, float] = {}
    by_set: dict[str, Contrast] = {}
    for name in sets:
        found = _differences([(ours[seed], theirs[seed]) for seed in shared], name, planned.metric)
        if found is None:
            return Compared(planned, seeds, asked, why=f"not comparable: other queries of {name}")
        if any(rows.shape[1] < 2 for rows in found.values()):
            return Compared(planned, seeds, asked, why=f"not comparable: one query of {name}")
        by_set[name] = contrast(found, dict.fromkeys(found, 1.0))
        parts |= {f"{name}/{part}": rows for part, rows in found.items()}
        weights |= {f"{name}/{part}": 1 / len(found) for part in found}
    by_query = {part: rows.mean(0).tolist() for part, rows in parts.items()}
    return Compared(planned, seeds, asked, contrast(parts, weights), by_set, by_query, weights)


def difference_of(found: Contrast) -> Difference:
    """The cell of a contrast."""
    return Difference(found.mean, *found.interval())


def _complete(row: ModelRow, sets: Sequence[str], metric: str) -> dict[int | None, SeedResults]:
    """Seed -> results, of those that were scored on every set by a metric."""

    def scored(seed: SeedResults, name: str) -> bool:
        parts = seed.per_query.get(name)
        return parts is not None and all(
            metric in scores for queries in parts.values() for scores in queries.values()
        )

    return {one.run.seed: one for one in row.seeds if all(scored(one, name) for name in sets)}


def _differences(
    pairs: Sequence[tuple[SeedResults, SeedResults]], name: str, metric: str
) -> dict[str, Array] | None:
    """Part -> differences, a row for each seed; None where queries are not the same."""
    first = pairs[0][0].per_query[name]
    found: dict[str, list[list[float]]] = {part: [] for part in first}
    for arm, against in pairs:
        ours, theirs = arm.per_query[name], against.per_query[name]
        if not ours.keys() == theirs.keys() == first.keys():
            return None
        for part, queries in first.items():
            if not queries.keys() == ours[part].keys() == theirs[part].keys():
                return None
            found[part].append(
                [ours[part][query][metric] - theirs[part][query][metric] for query in queries]
            )
    return {part: np.array(rows) for part, rows in found.items()}
