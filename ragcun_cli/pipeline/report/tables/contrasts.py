"""The tables of contrasts: what the plan asks, answered; and the primary one set by set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ragcun_cli.core.rankings.contrasts import Contrast, holm
from ragcun_cli.core.rankings.significance import randomisation_p_value
from ragcun_cli.pipeline.report.contrasts import POINTS, Compared, difference_of
from ragcun_cli.pipeline.report.rows import MAIN_METRIC
from ragcun_cli.pipeline.report.table import Cell, Column, Difference, Table, cell_parts, cell_text
from ragcun_cli.spec.section import dotted

_SIGNS_SEED = 0

CONTRAST_COLUMNS = (
    Column("contrast", "Contrast"),
    Column("kind", "Kind"),
    Column("difference", "Difference", digits=2, scale=POINTS),
    Column("verdict", "Verdict"),
    Column("p_value", "p", digits=3, least=0.001),
    Column("p_holm", "p, Holm", digits=3, least=0.001),
    Column("p_queries", "p, queries alone", digits=3, least=0.001),
    Column("seeds", "Seeds"),
    Column("deviation", "Sd over seeds", digits=2, scale=POINTS),
    Column("detectable", "Detectable", digits=2, scale=POINTS),
    Column("shrinks", "Shrinks with"),
)
NOTES = (
    "Points of the average over the sets. The 95 % interval and p are of one formula, in which "
    "queries and training seeds are both samples (docs/EVALUATION.md); Holm's p is over all "
    "planned contrasts. Of one seed, the p of a primary contrast is that of queries alone.",
    "Detectable: the true difference that such an experiment finds at 5 % in four of five cases.",
)


def contrasts_table(
    compared: Sequence[Compared],
    family: Sequence[Compared] = (),
    *,
    smallest_effect: float | None = None,
) -> Table | None:
    """Planned contrasts, the primary ones first; None where none is planned.

    Args:
        compared: those that are shown.
        family: all that are planned, which Holm's procedure is over.
        smallest_effect: of interest, in points.
    """
    if not compared:
        return None
    every = family or compared
    alone = {one.name: _queries_alone(one) for one in every if one.found and one.planned.primary}
    own = {one.name: one.found.p_value for one in every if one.found}
    own |= {one.name: alone[one.name] for one in every if one.seeds == 1 and one.name in alone}
    adjusted = holm(own, len(every))
    ordered = sorted(compared, key=lambda one: not one.planned.primary)
    margin = None if smallest_effect is None else smallest_effect / POINTS
    notes = [*answers(compared, smallest_effect), *NOTES, *_blindness(compared)]
    if smallest_effect is not None:
        notes.append(f"Equivalent: the 90 % interval lies within ±{smallest_effect:g} points.")
    if lacking := [f"{one.name}: {one.why}" for one in ordered if one.why]:
        notes.append("; ".join(lacking) + ".")
    return Table(
        key="contrasts",
        caption="What the plan asks",
        columns=CONTRAST_COLUMNS,
        rows=tuple(_row(one, (own, adjusted, alone), margin) for one in ordered),
        notes=tuple(notes),
    )


def sets_table(compared: Sequence[Compared]) -> Table | None:
    """The primary contrast on each set; None where it was not measured or is of one set."""
    first = primary_of(compared)
    if first is None or len(first.by_set) < 2:
        return None
    adjusted = holm({name: found.p_value for name, found in first.by_set.items()})
    rows = [
        (name, difference_of(found), found.p_value, adjusted[name])
        for name, found in first.by_set.items()
    ]
    return Table(
        key="contrast-by-set",
        caption=f"{first.name}, set by set",
        columns=(
            Column("dataset", "Data set"),
            *(column for column in CONTRAST_COLUMNS if column.key in ("difference", "p_value")),
            Column("p_holm", "p, Holm", digits=3, least=0.001),
        ),
        rows=tuple(rows),
        notes=("Points, with 95 % intervals as above; Holm's p is over the sets.",),
    )


def answers(compared: Sequence[Compared], smallest_effect: float | None = None) -> list[str]:
    """A sentence for each primary contrast that was measured: what it says."""
    primary = [one for one in compared if one.planned.primary]
    return [_answer(one, one.found, smallest_effect) for one in primary if one.found is not None]


def _answer(one: Compared, found: Contrast, smallest_effect: float | None) -> str:
    column = next(one for one in CONTRAST_COLUMNS if one.key == "difference")
    difference, interval = cell_parts(column, difference_of(found))
    few = {0: "no seeds", 1: "one seed, blind to training noise"}
    seeds = few.get(one.seeds, f"{one.seeds} seeds")
    sets = "one set" if len(one.by_set) == 1 else f"{len(one.by_set)} sets"
    margin = None if smallest_effect is None else smallest_effect / POINTS
    shows = verdict(found, margin)
    within = f" within ±{smallest_effect:g} points" if "equivalent" in shows else ""
    return (
        f"{one.name} is {difference} points {interval} of {one.planned.scores} over {sets} and "
        f"{seeds}: {shows}{within}."
    )


def what_differs(compared: Sequence[Compared]) -> list[str]:
    """A sentence for each pair of trained rows in a primary contrast: in which settings, if few."""
    said = []
    for one in compared:
        if not one.planned.primary or any(row.run.reference for row in one.rows):
            continue
        ours, theirs = (dotted(row.run.profile.model_dump(mode="json")) for row in one.rows)
        pairs = [
            f"{key} ({ours.get(key)} and {theirs.get(key)})"
            for key in sorted((ours.keys() | theirs.keys()) - {"name", "description"})
            if ours.get(key) != theirs.get(key)
        ]
        if 0 < len(pairs) < 4:
            names = " and ".join(row.shown for row in one.rows)
            said.append(f"{names} differ in {', '.join(pairs)}.")
    return list(dict.fromkeys(said))


def verdict(found: Contrast, margin: float | None = None) -> str:
    """What a contrast shows, in words."""
    low, high = found.interval()
    equal = margin is not None and found.is_within(margin)
    if low > 0 or high < 0:
        side = "above 0" if low > 0 else "below 0"
        return f"{side}, equivalent" if equal else side
    return "equivalent" if equal else "not told apart from 0"


def primary_of(compared: Sequence[Compared]) -> Compared | None:
    """The first primary contrast that was measured."""
    return next((one for one in compared if one.planned.primary and one.found), None)


def what_if_table(found: Mapping[str, Any]) -> Table:
    """The changes of `what_if.json`, and what dev queries choose among them."""
    score = Column("ndcg", "nDCG@10", digits=2, scale=POINTS)
    difference, p_holm = (one for one in CONTRAST_COLUMNS if one.key in ("difference", "p_holm"))
    rows = [
        (one["name"], one[MAIN_METRIC], Difference(*one["difference"]), one["p_holm"], one["dev"])
        for one in found["rungs"]
    ]
    base, keys = found["untouched"], ("by_set", "dev_by_set")
    on, dev = (", ".join(base[key]) for key in keys)
    notes = [
        f"Points, means over {on}; untouched is fp32 by {found['similarity']}. Differences to it "
        "are paired by query; Holm's p is over all changes. Transforms and forms are fitted to "
        "passages of each set.",
        f"Chosen on dev queries of {dev}; the differences are to the same precision or width "
        "without a transform, on test and uncorrected."
        if dev
        else "Not chosen: no set has dev queries.",
    ]
    for group, one in found["chosen"].items():
        said = cell_text(difference, Difference(*one["difference"]))
        notes.append(f"Best free change, {group}: {one['name']}, {said} points.")
    return Table(
        key="what-if",
        caption="What free changes of the embeddings would do",
        columns=(
            *(Column("change", "Change"), score, difference, p_holm),
            replace(score, key="dev", label="On dev"),
        ),
        rows=((base["name"], base[MAIN_METRIC], "–", "–", base["dev"]), *rows),
        notes=tuple(notes),
    )


def _row(
    one: Compared, p_values: Sequence[Mapping[str, float]], margin: float | None
) -> tuple[Cell, ...]:
    kind = "primary" if one.planned.primary else "secondary"
    found = one.found
    if found is None:
        why = None if one.why == "not measured" else one.why
        return (one.name, kind, why, *[None] * (len(CONTRAST_COLUMNS) - 3))
    return (
        one.name,
        kind,
        difference_of(found),
        verdict(found, margin),
        *(known.get(one.name, "–") for known in p_values),
        _seeds(one),
        "none" if found.deviation is None else found.deviation,
        found.detectable,
        "–"
        if one.seeds < 2
        else f"{'seeds' if found.seeds_share > 0.5 else 'queries'} "
        f"({max(found.seeds_share, 1 - found.seeds_share):.0%})",
    )


def _queries_alone(one: Compared) -> float:
    return randomisation_p_value(one.by_query, weights=one.weights, seed=_SIGNS_SEED)


def _seeds(one: Compared) -> str:
    if not one.asked:
        return "none"
    return f"{one.seeds}" if one.seeds == one.asked else f"{one.seeds} of {one.asked}"


def _blindness(compared: Sequence[Compared]) -> list[str]:
    counts = {one.seeds for one in compared if one.found}
    notes = ["One seed: blind to training noise."] if 1 in counts else []
    if 2 in counts:
        notes.append("Two seeds: the interval covers about 88 % where seeds differ.")
    return notes
