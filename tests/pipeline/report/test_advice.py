"""Advice: what it says of results that are written here, and that the intervals carry it."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ragcun_cli.core.rankings.contrasts import Contrast
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.advice import FREE, advice_of, to_take
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.tasks import Part, answers_of
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import PaperPlan, PlannedContrast
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))
SEEDS, QUERIES = (1, 2, 3), 200
FORMS = ("float32", "binary")
ARMS = ("tuned", "plain")
BASE = np.random.default_rng(0).uniform(0.2, 0.8, QUERIES)


def profile(**more):
    return RunProfile.model_validate(
        {"name": "tuned", "evaluation": {"datasets": ["mine"], "variants": ["binary"]}} | more
    )


def plan(**more):
    contrasts = tuple(
        PlannedContrast(arm="tuned", against="untouched", form=form, primary=True) for form in FORMS
    )
    values = {"contrasts": contrasts, "smallest_effect": None} | more
    return PaperPlan("mine", "", (profile(),), ("untouched",), SEEDS, **values)


def row(name, gains, *, noise=0.02, **more):
    """A row whose queries gain so much over the base, by form, each with noise of its own."""
    results = []
    for seed in (None,) if name not in ARMS else SEEDS:
        rng = np.random.default_rng([*map(ord, name), seed or 0])
        columns = {
            (form, "ndcg@10"): {"": BASE + gain + rng.normal(0, noise * (name != "untouched"), 200)}
            for form, gain in zip(FORMS, gains, strict=False)
        }
        means = {"mine": {"metrics": {"ndcg@10": 0.5}}}
        run = Run(profile(**more), seed, None if name in ARMS else name, SPACE)
        found = {"mine": ScoreColumns({"": "digest"}, columns)}
        results.append(SeedResults(run, None, {}, found, None, means, {}))
    return ModelRow(name, tuple(results))


def advised(*, asked=None, **gains):
    rows = [row("untouched", (0, 0)), *(row(name, of) for name, of in gains.items())]
    return advice_of(asked or plan(), rows, ["mine"])


def test_a_gain_is_recommended_with_its_interval_in_both_forms():
    (said,) = advised(tuned=(0.021, 0.04))
    number = r"\+(\d\.\d\d) points \[\+(\d\.\d\d), \+(\d\.\d\d)\] over the base"
    pattern = rf"Take tuned: it gains {number}; in binary search take tuned: it gains {number}\."
    found = re.fullmatch(pattern, said)
    assert found, said
    mean, low, high, *binary = map(float, found.groups())
    assert low < mean < high
    assert mean == pytest.approx(2.1, abs=0.4)
    assert binary[0] == pytest.approx(4.0, abs=0.4)


def test_without_a_gain_the_base_stays():
    (said,) = advised(tuned=(0.0, 0.03))
    assert said.startswith("Stay with the base: the interval of tuned's gain, [\N{MINUS SIGN}0.")
    assert "] points, contains 0; in binary search take tuned: it gains +" in said
    (said,) = advised(tuned=(-0.05, -0.05))
    assert "Stay with the base: " in said
    assert said.count("lies below 0") == 2


def test_what_is_cheaper_and_as_good_comes_first():
    (said,) = advised(tuned=(0.03, 0.0), free_transform=(0.03, 0.0))
    assert said.startswith("Take the base behind its free transform: that gains +")
    assert "and the interval of tuned's gain over that, [" in said
    (said,) = advised(tuned=(0.03, 0), bm25=(0.2,))
    assert said.startswith("Think of lexical search first: BM25 gains +")
    assert "over that" in said
    assert "lies below 0; in binary search stay with the base" in said
    (said,) = advised(tuned=(0.03, 0), bm25=(0.2,), fusion=(0.3,))
    assert said.startswith("Fuse BM25 with the base: that gains +")
    (said,) = advised(tuned=(0.4, 0), bm25=(0.2,), fusion=(0.3,))
    assert said.startswith("Take tuned: ")


def test_an_arm_that_is_not_the_primary_one_is_taken_where_the_plan_holds_it_against_the_base():
    (said,) = advised(tuned=(0.0, 0.0), plain=(0.05, 0.0))
    assert said.startswith("Stay with the base")
    asked = PlannedContrast(arm="plain", against="untouched")
    whole = plan(contrasts=(*plan().contrasts, asked))
    (said,) = advised(tuned=(0.0, 0.0), plain=(0.05, 0.0), asked=whole)
    assert said.startswith("Take plain: it gains +")
    assert "and the interval of tuned's gain over that, [" in said
    (said,) = advised(tuned=(0.05, 0.0), plain=(0.05, 0.0), asked=whole)
    assert said.startswith("Take tuned: it gains +")
    (said,) = advised(tuned=(0.05, 0.0), plain=(0.051, 0.0), asked=whole)
    assert said.startswith("Take tuned: it gains +")
    pattern = (
        r" base \(plain stands higher, but the interval of that, \[.*?\] points, contains 0\);"
    )
    assert re.search(pattern, said), said


def test_a_gain_below_the_smallest_effect_is_none():
    (said,) = advised(tuned=(0.01, 0.01), asked=plan(smallest_effect=1.0))
    assert said.startswith("Stay with the base: ")
    assert "does not lie above 1 as a whole" in said


def test_few_queries_are_counted(monkeypatch):
    assert "queries" not in advised(tuned=(0.05, 0.05))[0]
    monkeypatch.setattr("ragcun_cli.pipeline.report.advice.FEW_TESTED", QUERIES + 1)
    assert advised(tuned=(0.05, 0.05))[0].endswith("; 200 test queries are few.")


def test_who_asks_for_no_advice_gets_none():
    secondary = PlannedContrast(arm="tuned", against="untouched")
    other = PlannedContrast(arm="tuned", against="bm25", primary=True)
    rows = [row("untouched", (0, 0)), row("tuned", (0.1, 0.1)), row("bm25", (0.1,))]
    assert advice_of(plan(contrasts=(secondary, other)), rows, ["mine"]) == []
    assert advice_of(None, rows, ["mine"]) == []
    assert advice_of(plan(), rows[:1], ["mine"]) == []
    shown = [row("untouched", (0, 0), demonstration=True), *rows[1:]]
    assert advice_of(plan(), shown, ["mine"]) == []


def test_it_is_the_first_answer_of_a_report():
    rows = [row("untouched", (0, 0)), row("tuned", (0.1, 0.1))]
    said = answers_of([Part("mine", rows, plan())])
    assert said[0].startswith("Take tuned: ")
    assert said[1].startswith("tuned \N{MINUS SIGN} untouched is +")


def drawn_contrast(draw):
    number = st.floats(-0.05, 0.05)
    spread = st.floats(0, 0.03)
    mean, deviation = draw(number), draw(spread)
    return Contrast(mean, deviation**2, draw(st.floats(1, 400)), (mean,) * 3, 0.5)


@given(st.data())
def test_nothing_is_recommended_that_its_interval_does_not_carry(data):
    """Against Student's t of scipy: the whole interval lies above the margin, for each step."""
    known = {}

    def gain(name, against, form):
        if (name, against) not in known:
            missing = data.draw(st.booleans() if name not in ARMS else st.just(False))
            known[name, against] = None if missing else data.draw(st.composite(drawn_contrast)())
        return known[name, against]

    margin = data.draw(st.sampled_from([0.0, 0.005]))
    best, found = to_take(ARMS, "float32", gain, margin)

    def low(one):
        return one.mean - stats.t.ppf(0.975, one.df) * one.variance**0.5

    carried = {
        name
        for name in (*FREE, *ARMS)
        if (one := known[name, "untouched"]) is not None and low(one) > margin + 1e-12
    }
    if best == "untouched":
        assert found is None
        assert not carried
    else:
        assert low(found) > margin - 1e-12
        assert found is known[best, "untouched"]
        cheaper = [name for name in (*FREE, *ARMS) if name in carried]
        for other in cheaper[: cheaper.index(best)] if best in cheaper else ():
            beaten = known.get((best, other))
            assert beaten is None or low(beaten) > margin - 1e-12


@given(
    st.tuples(*[st.floats(-0.06, 0.06)] * 4),
    st.floats(0.02, 0.3),
    st.sampled_from([None, 1.0]),
)
def test_every_sentence_has_its_interval_on_the_right_side(shifts, noise, smallest):
    names = ("free_transform", "bm25", "fusion", "tuned")
    rows = [row("untouched", (0, 0))]
    rows += [
        row(name, (shift, shift), noise=noise) for name, shift in zip(names, shifts, strict=True)
    ]
    (said,) = advice_of(plan(smallest_effect=smallest), rows, ["mine"])
    for clause in said.removesuffix(".").split("; "):
        found = re.search(r"points \[(.\d+\.\d+), .*?\] over the base", clause)
        recommends = re.search(r"(?i)\b(take|think|fuse)\b", clause)
        assert bool(found) == bool(recommends) == ("tay with the base" not in clause)
        if found:
            assert float(found[1].replace("\N{MINUS SIGN}", "-")) >= (smallest or 0.0)
