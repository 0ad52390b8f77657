"""Which runs a report is of, what it calls them, and when it is strict."""

import json

import pytest


def tables(ragcun, workspace, *words):
    outcome = ragcun("report", "-w", workspace, "--json", *words)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["tables"], outcome.err


def models(found, key="results"):
    return [row["model"] for table in found if table["key"] == key for row in table["rows"]]


def test_without_a_profile_it_is_of_the_plan_that_was_reproduced_last(ragcun, workspace):
    found, said = tables(ragcun, workspace)
    assert "of smoke, the plan that was reproduced last; --all-runs takes every" in said
    assert len(models(found)) == 8
    part = ragcun(
        *("reproduce", "--profile", "smoke", "-w", workspace),
        *("--experiment", "with_isotropy", "--seed", "1", "--references", "bm25"),
    )
    assert part.code == 0, part.err
    found, said = tables(ragcun, workspace)
    words = "--experiment with_isotropy --seed 1 --references bm25"
    assert f"of smoke {words}, the plan that was reproduced last" in said
    assert models(found) == ["bm25", "with_isotropy"]
    folders = sorted(folder.name for folder in workspace.glob("reports/smoke*"))
    assert len(folders) == 2
    assert folders[0] == "smoke"
    whole, _ = tables(ragcun, workspace, "--profile", "smoke")
    assert len(models(whole)) == 8


def test_all_runs_are_grouped_by_their_plans_and_one_that_was_only_looked_at_is_none(
    ragcun, workspace, model
):
    looked = ragcun(
        *("eval", "--query", "mean of an array", "--datasets", "smoke-numpy"),
        *("--model", model, "-w", workspace, "--json"),
    )
    assert looked.code == 0, looked.err
    found, said = tables(ragcun, workspace, "--all-runs")
    assert "reproduced last" not in said
    assert len(models(found)) == 8
    scored = ragcun("eval", "--model", model, "--datasets", "smoke-numpy", "-w", workspace)
    assert scored.code == 0, scored.err
    found, _ = tables(ragcun, workspace, "--all-runs")
    assert models(found, "results-2") == [str(model)]
    captions = [table["caption"] for table in found if table["key"].startswith("results")]
    assert captions == ["Retrieval quality: smoke", "Retrieval quality: other runs"]


def test_where_no_plan_was_reproduced_it_is_of_all_finished_runs(ragcun, workspace):
    (workspace / "reports/last").unlink()
    found, said = tables(ragcun, workspace)
    assert "as no plan was reproduced last: none is on record" in said
    assert len(models(found)) == 8


def test_rows_are_chosen_ordered_and_named(ragcun, workspace):
    found, _ = tables(
        *(ragcun, workspace, "--rows", "with_isotropy,baseline_no_isotropy"),
        *("--names", "with_isotropy=Ours", "--names", "baseline_no_isotropy=Without"),
    )
    assert models(found) == ["Ours", "Without"]
    contrasts = next(table for table in found if table["key"] == "contrasts")
    assert [row["contrast"] for row in contrasts["rows"]] == ["Ours − Without"]
    assert "Difference to Ours" in [c["label"] for t in found for c in t["columns"]]
    whole, _ = tables(ragcun, workspace)
    some, _ = tables(ragcun, workspace, "--rows", "with_isotropy,untouched,with_isotropy")
    assert models(some) == ["with_isotropy", "untouched"]
    (row,) = some[0]["rows"]
    assert row in whole[0]["rows"]
    assert row["kind"] == "secondary"
    labels = [column["label"] for column in some[1]["columns"]]
    assert "Difference to untouched" in labels
    for words in (("--rows", "nobody"), ("--names", "nobody=x")):
        outcome = ragcun("report", "-w", workspace, *words)
        assert outcome.code == 2
        assert "'nobody' is no row of this report; these are: untouched" in outcome.err
    for words in (("--names", "x"), ("--names", "untouched= "), ("--rows", ",")):
        assert ragcun("report", "-w", workspace, *words).code == 2
    twice = ragcun("report", "-w", workspace, "--names", "untouched=bm25")
    assert (twice.code, "two rows would be called 'bm25'" in twice.err) == (2, True)
    both = ragcun("report", "-w", workspace, "--profile", "smoke", "--all-runs")
    assert both.code == 2


def test_the_long_tables_are_on_the_terminal_with_all_alone(ragcun, workspace):
    short, whole = (ragcun("report", "-w", workspace, *more) for more in ((), ("--all",)))
    for title in ("Isotropy of the query embeddings", "Calibration of the best"):
        assert title not in short.out
        assert title in whole.out
    assert "--all shows them" in short.err


@pytest.mark.parametrize(("above", "code"), [("-50.0", 0), ("50.0", 4)])
def test_strict_exits_4_unless_every_claim_is_shown(ragcun, workspace, above, code):
    plan = json.loads((workspace / "reports/smoke/plan.json").read_text())
    claim = {"name": "a gain", "measure": "gain", "above": float(above)}
    plan["claims"] = [claim | {"arm": "with_isotropy", "against": "baseline_no_isotropy"}]
    (workspace / "reports/smoke/plan.json").write_text(json.dumps(plan))
    assert ragcun("report", "-w", workspace).code == 0
    outcome = ragcun("report", "-w", workspace, "--strict")
    assert outcome.code == code
    assert "What the plan claims" in outcome.out
    if code:
        assert "1 of 1 claims are not shown: a gain: not met" in outcome.err


def test_strict_needs_claims(ragcun, workspace):
    outcome = ragcun("report", "-w", workspace, "--strict")
    assert (outcome.code, "of no plan with claims" in outcome.err) == (4, True)


def test_every_format_takes_runs_of_one_name_from_several_plans(ragcun, workspace):
    """A sweep by hand: the same experiment again with another value, outside of any plan."""
    trained = ragcun(
        *("train", "--profile", "smoke", "--experiment", "with_isotropy", "--seed", "1"),
        *("--set", "training.batch_size=4", "--set", "training.max_steps=2", "-w", workspace),
    )
    assert trained.code == 0, trained.err
    for name in ("html", "latex", "markdown", "csv"):
        outcome = ragcun("report", "-w", workspace, "--all-runs", "--format", name)
        assert outcome.code == 0, outcome.err
    found, _ = tables(ragcun, workspace, "--all-runs")
    named = [name for name in models(found) if name.startswith("with_isotropy")]
    other = [name for name in models(found, "results-2") if name.startswith("with_isotropy")]
    assert named == ["with_isotropy (training.batch_size=8, training.max_steps=20)"]
    assert other == ["with_isotropy (training.batch_size=4, training.max_steps=2)"]
    contrasts = next(table for table in found if table["key"] == "contrasts")
    assert any("batch_size=8" in row["contrast"] for row in contrasts["rows"])


def test_a_plan_that_cannot_be_read_is_said(ragcun, workspace):
    (workspace / "reports/smoke/plan.json").write_text("{")
    found, said = tables(ragcun, workspace)
    assert "the plan of reports/smoke cannot be read" in said
    assert len(models(found)) == 8


@pytest.mark.parametrize("words", [("--strict",), ("--rows", "bm25"), ("--all-runs",)])
def test_push_refuses_the_options_of_tables(ragcun, workspace, words):
    one = ("--experiment", "with_isotropy", "--seed", "1")
    outcome = ragcun("report", "-w", workspace, "--push", "me/x", "--dry-run", *one, *words)
    assert outcome.code == 2
    assert "leave the options of tables out" in outcome.err
