"""One sentence of advice: what to take for a corpus, as far as the intervals carry it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized

from ragcun_cli.core.rankings.contrasts import Contrast
from ragcun_cli.pipeline.report.contrasts import POINTS, compare, difference_of
from ragcun_cli.pipeline.report.rows import MAIN_METRIC, ModelRow
from ragcun_cli.pipeline.report.table import Column, cell_parts
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.plan import PaperPlan, PlannedContrast

BASE = "untouched"

FREE = {
    "free_transform": "take the base behind its free transform{}: that gains",
    "bm25": "think of lexical search first: BM25 gains",
    "fusion": "fuse BM25 with the base: that gains",
}
"""What costs less than a training, the cheapest first, and the words that recommend it."""

FEW_TESTED = 100
"""Test queries, below which advice says how many there are."""

Gain = Callable[[str, str, str], Contrast | None]
"""Of a row over another in a form of the embeddings; None where it was not measured."""

_COLUMN = Column("difference", "Difference", digits=2, scale=POINTS)


def advice_of(plan: PaperPlan | None, rows: Sequence[ModelRow], sets: Sequence[str]) -> list[str]:
    """One sentence, for a plan whose primary contrasts hold an arm against the untouched base.

    That such a contrast is primary is how a plan asks for it: it then is about what to deploy. All
    arms can be recommended that the plan holds against the base. None of a demonstration, and none
    where the primary arm was not measured.

    Args:
        plan: whose contrasts are asked for.
        rows: that were measured.
        sets: of the averages.
    """
    asked = [one for one in plan.contrasts if _asks(one)] if plan is not None else []
    known = {row.name: row for row in rows}
    if plan is None or not asked or any(row.run.profile.demonstration for row in rows):
        return []
    arm, to_base = asked[0].arm, [one.arm for one in plan.contrasts if one.against == BASE]
    arms = [name for name in dict.fromkeys([arm, *to_base]) if name not in FREE]
    forms = [one.form for one in asked if one.arm == arm]

    def gain(name: str, against: str, form: str) -> Contrast | None:
        if not {name, against} <= known.keys():
            return None
        planned = PlannedContrast(arm=name, against=against, form=form)
        return compare(planned, rows, sets).found

    details = [row.seeds[0].training for row in rows if row.run.reference == "free_transform"]
    transform = details[0].details.get("transform", "") if details and details[0] else ""
    clauses = [
        _clause(arms, form, gain, (plan.smallest_effect or 0.0) / POINTS, transform)
        for form in forms
        if gain(arm, BASE, form) is not None
    ]
    if not clauses:
        return []
    own = gain(arm, BASE, forms[0])
    blind = "; one seed: blind to training noise" * (own is not None and own.seeds == 1)
    sentence = "; ".join(clauses)
    queries = sum(sum(map(len, parts.values())) for parts in _scores(rows[0], sets))
    few = f"; {queries} test queries are few" * (queries < FEW_TESTED)
    return [f"{sentence[0].upper()}{sentence[1:]}{few}{blind}."]


def _scores(row: ModelRow, sets: Sequence[str]) -> list[Mapping[str, Sized]]:
    """Part of each set -> scores by query, of the first seed."""
    found = row.seeds[0].scores
    return [found[name].values[FULL_FORM, MAIN_METRIC] for name in sets]


def _asks(one: PlannedContrast) -> bool:
    return one.primary and one.against == BASE and one.metric == MAIN_METRIC and not one.datasets


def to_take(
    arms: Sequence[str], form: str, gain: Gain, margin: float
) -> tuple[str, Contrast | None]:
    """What to take in a form of the embeddings, and its gain over the base; the base without one.

    From the cheapest on, each replaces what was chosen before where the intervals of its gains over
    the base and over that lie above the margin as a whole.

    Args:
        arms: what was trained, the primary one first.
        form: of the embeddings.
        gain: looks up contrasts.
        margin: that a gain has to exceed, on the scale of the scores.
    """
    best, found = BASE, None
    for name in (*FREE, *arms):
        over_base, over_best = gain(name, BASE, form), gain(name, best, form)
        if _carried(over_base, margin) and _carried(over_best, margin):
            best, found = name, over_base
    return best, found


def _carried(found: Contrast | None, margin: float) -> bool:
    return found is not None and found.interval()[0] > margin


def _clause(arms: Sequence[str], form: str, gain: Gain, margin: float, transform: str) -> str:
    arm, (best, found) = arms[0], to_take(arms, form, gain, margin)
    where = "" if form == FULL_FORM else f"in {form} search "
    if best == BASE or found is None:
        own, why = _interval(gain(arm, BASE, form), margin)
        return f"{where}stay with the base: the interval of {arm}'s gain, {own} points, {why}"
    words = FREE.get(best, f"take {best}: it gains").format(f" {transform}".rstrip())
    value, interval = cell_parts(_COLUMN, difference_of(found))
    said = f"{where}{words} {value} points {interval} over the base"
    for name in (name for name in arms if name != best):
        higher = gain(name, best, form)
        if higher is not None and higher.mean > 0:  # not carried, or it were the best
            own, why = _interval(higher, margin)
            said += f" ({name} stands higher, but the interval of that, {own} points, {why})"
    over_best = gain(arm, best, form)
    if best == arm or over_best is None:
        return said
    own, why = _interval(over_best, margin)
    return f"{said}, and the interval of {arm}'s gain over that, {own} points, {why}"


def _interval(found: Contrast | None, margin: float) -> tuple[str, str]:
    """The ends of an interval, and where they lie."""
    assert found is not None
    low, high = found.interval()
    why = "lies above 0" if low > margin else f"does not lie above {POINTS * margin:g} as a whole"
    if low <= 0:
        why = "lies below 0" if high < 0 else "contains 0"
    return cell_parts(_COLUMN, difference_of(found))[1], why
