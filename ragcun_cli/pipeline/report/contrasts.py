"""The contrasts of a plan: which there are, and what the scores of its rows say of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from ragcun_cli.core.rankings.contrasts import Array, Contrast, contrast
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumn
from ragcun_cli.pipeline.report.rows import MAIN_METRIC, ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Difference
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.plan import PlannedContrast

_Of = TypeVar("_Of")

POINTS = 100.0
"""Of a score of 1."""

QUESTION = ("with_isotropy", "baseline_no_isotropy")
"""The arms whose difference the original plan asks about."""


@dataclass(frozen=True)
class Compared:
    """A contrast of two rows, or why there is none."""

    planned: PlannedContrast
    name: str
    """For people."""
    seeds: int
    """That both rows have on every set; 0 where neither has any."""
    asked: int
    """Of the row that has more."""
    rows: tuple[ModelRow, ModelRow]
    """The arm, and what it is against."""
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
    names = [row.name for row in rows]
    if contrasts:
        return [one for one in contrasts if None not in _two_rows(one, rows)]
    trained = [row.name for row in rows if row.run.reference is None]
    references = [row.name for row in rows if row.run.reference is not None]
    asks = set(QUESTION) <= set(names)
    base = next(iter(["untouched"] if "untouched" in references else references), names[0])
    against = trained if base in references or not asks else []
    found = [PlannedContrast(arm=name, against=base) for name in against if name != base]
    if asks:
        return [PlannedContrast(arm=QUESTION[0], against=QUESTION[1], primary=True), *found]
    return [one.model_copy(update={"primary": one is found[0]}) for one in found]


def compare(planned: PlannedContrast, rows: Sequence[ModelRow], sets: Sequence[str]) -> Compared:
    """What the scores of two rows say of a contrast, on its own sets or else on these."""
    sets = planned.datasets or sets
    arm, against = _two_rows(planned, rows)
    assert arm is not None
    assert against is not None
    column = planned.form, planned.metric
    ours, theirs = (_complete(row, sets, column) for row in (arm, against))
    seeded = [row for row in (arm, against) if row.run.seed is not None]
    shared = paired(ours, theirs)
    asked = max((len(row.every) for row in seeded), default=0)
    name, seeds = planned.called(arm.shown, against.shown), len(shared) if seeded else 0
    said = planned, name, seeds, asked, (arm, against)
    without = [row.shown for row in (arm, against) if not row.run.embeds]
    if planned.form != FULL_FORM and without:
        return Compared(*said, why=f"{without[0]} has no embeddings")
    if not (shared and sets):
        return Compared(*said, why="not measured")
    differences: dict[str, dict[str, Array]] = {}
    for name in sets:
        found = _differences(shared, name, column)
        if found is None:
            return Compared(*said, why=f"not comparable: other queries of {name}")
        if any(rows.shape[1] < 2 for rows in found.values()):
            return Compared(*said, why=f"not comparable: one query of {name}")
        differences[name] = found
    by_set = {name: contrast(of, dict.fromkeys(of, 1.0)) for name, of in differences.items()}
    parts, weights = _by_part(differences)
    by_query = {part: rows.mean(0).tolist() for part, rows in parts.items()}
    return Compared(*said, contrast(parts, weights), by_set, by_query, weights)


def _two_rows(
    planned: PlannedContrast, rows: Sequence[ModelRow]
) -> tuple[ModelRow | None, ModelRow | None]:
    """Its rows by name; of several starts of that name, an arm is held against its own."""
    arm = next((row for row in rows if row.name == planned.arm), None)
    if arm is None:
        return None, None
    start = replace(arm.run, seed=None, reference="untouched_start")
    own = start.folder if planned.against == start.name else None
    named = (row for row in rows if planned.against == row.name or own == row.run.folder)
    return arm, next(named, None)


def average_of(row: ModelRow, sets: Sequence[str]) -> Contrast | None:
    """A row's own average over sets, in nDCG@10.

    None unless it was evaluated on all of them, each of two queries or more.
    """
    column = FULL_FORM, MAIN_METRIC
    seeds = list(_complete(row, sets, column).values())
    if not (seeds and sets):
        return None
    scores = {name: [seed.scores[name].values[column] for seed in seeds] for name in sets}
    parts, weights = _by_part(
        {
            name: {part: np.array([one[part] for one in of]) for part in of[0]}
            for name, of in scores.items()
        }
    )
    if any(rows.shape[1] < 2 for rows in parts.values()):
        return None
    return contrast(parts, weights)


def difference_of(found: Contrast) -> Difference:
    """The cell of a contrast."""
    return Difference(found.mean, *found.interval())


def _by_part(
    by_set: Mapping[str, Mapping[str, Array]],
) -> tuple[dict[str, Array], dict[str, float]]:
    """The parts of all sets, and their weights: a set's own is divided evenly among them."""
    parts = {f"{name}/{part}": rows for name, of in by_set.items() for part, rows in of.items()}
    weights = {f"{name}/{part}": 1 / len(of) for name, of in by_set.items() for part in of}
    return parts, weights


def paired(
    ours: Mapping[int | None, _Of], theirs: Mapping[int | None, _Of]
) -> list[tuple[_Of, _Of]]:
    """What two rows have of each seed that both have; one without seeds has the same of all."""
    if None in ours:
        ours = dict.fromkeys(theirs, ours[None])
    elif None in theirs:
        theirs = dict.fromkeys(ours, theirs[None])
    shared = sorted(ours.keys() & theirs.keys(), key=lambda seed: seed or 0)
    return [(ours[seed], theirs[seed]) for seed in shared]


def _complete(
    row: ModelRow, sets: Sequence[str], column: ScoreColumn
) -> dict[int | None, SeedResults]:
    """Seed -> results, of those whose scores on every set have this column."""
    return {
        one.run.seed: one
        for one in row.seeds
        if all(name in one.scores and column in one.scores[name].values for name in sets)
    }


def _differences(
    pairs: Sequence[tuple[SeedResults, SeedResults]], name: str, column: ScoreColumn
) -> dict[str, Array] | None:
    """Part -> differences, a row for each seed; None where queries are not the same."""
    found = [(arm.scores[name], against.scores[name]) for arm, against in pairs]
    queries = found[0][0].queries
    if any(one.queries != queries for pair in found for one in pair):
        return None
    return {
        part: np.array([one.values[column][part] - of.values[column][part] for one, of in found])
        for part in queries
    }
