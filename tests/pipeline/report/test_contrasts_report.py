"""The tables of contrasts, of scores that are written here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragcun_cli.core.rankings.contrasts import contrast, holm
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.contrasts import compare, planned_contrasts
from ragcun_cli.pipeline.report.figures.contrasts import forest_figure
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Difference
from ragcun_cli.pipeline.report.tables.contrasts import (
    answers,
    contrasts_table,
    sets_table,
    verdict,
    what_differs,
)
from ragcun_cli.pipeline.report.tables.results import results_table
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import PlannedContrast
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))
SETS = {"scifact": {"": 40}, "cqadupstack": {"android": 25, "english": 60}}


def scores(label, seed, *, sets=SETS, shift=0.0):
    """Data set -> columns, drawn for a row and a seed."""
    found = {}
    for name, parts in sets.items():
        values = {}
        for part, count in parts.items():
            rng = np.random.default_rng([*map(ord, label + name + part), seed or 0])
            values[part] = np.clip(rng.normal(0.5 + shift, 0.2, count), 0, 1)
        columns = {
            ("float32", "ndcg@10"): values,
            ("float32", "mrr@10"): {part: 1 - each for part, each in values.items()},
            ("binary", "ndcg@10"): {part: each / 2 for part, each in values.items()},
        }
        queries = {part: f"digest of {count} ids" for part, count in parts.items()}
        found[name] = ScoreColumns(queries, columns)
    return found


def row(label, seeds=(1, 2, 3), *, reference=None, **drawn):
    evaluation = {"datasets": ["scifact", "cqadupstack"]}
    profile = RunProfile.model_validate({"name": "x", "evaluation": evaluation})
    results = []
    for seed in (None,) if reference else seeds:
        columns = scores(label, seed, **drawn)
        means = {
            name: float(np.mean([each.mean() for each in of.values[FULL_FORM, "ndcg@10"].values()]))
            for name, of in columns.items()
        }
        metrics = {name: {"metrics": {"ndcg@10": mean}} for name, mean in means.items()}
        run = Run(profile, seed, reference, SPACE)
        results.append(SeedResults(run, None, {}, columns, None, metrics, {}))
    return ModelRow(label, tuple(results))


def by_hand(arm, against, seeds, column=("float32", "ndcg@10")):
    """The contrast of two rows, its differences put together query by query."""
    parts, weights = {}, {}
    for name, of in SETS.items():
        for part, count in of.items():
            rows = []
            for seed in seeds:
                one, other = (
                    next(s for s in r.seeds if s.run.seed in (seed, None)).scores[name]
                    for r in (arm, against)
                )
                pair = (each.values[column][part].tolist() for each in (one, other))
                rows.append([ours - theirs for ours, theirs in zip(*pair, strict=True)])
                assert len(rows[-1]) == count
            parts[f"{name}/{part}"] = np.array(rows)
            weights[f"{name}/{part}"] = 1 / len(of)
    return contrast(parts, weights)


def planned(arm="a", against="b", **more):
    return PlannedContrast(arm=arm, against=against, **more)


def test_a_contrast_pairs_seeds_and_queries_and_divides_a_sets_weight_among_its_parts():
    rows = [row("a"), row("b")]
    found = compare(planned(), rows, list(SETS))
    assert found.found == by_hand(*rows, seeds=(1, 2, 3))
    assert (found.seeds, found.asked, found.why) == (3, 3, "")
    assert list(found.by_set) == list(SETS)
    other = compare(planned(metric="mrr@10"), rows, list(SETS))
    assert other.found == by_hand(*rows, seeds=(1, 2, 3), column=("float32", "mrr@10"))
    small = compare(planned(form="binary"), rows, list(SETS))
    assert small.found == by_hand(*rows, seeds=(1, 2, 3), column=("binary", "ndcg@10"))
    assert small.name == "a − b, binary"
    absent = compare(planned(form="int8"), rows, list(SETS))
    assert (absent.found, absent.why) == (None, "not measured")


def test_seeds_that_one_arm_lacks_are_left_out_and_counted():
    rows = [row("a", (1, 2, 3)), row("b", (2, 3, 4))]
    found = compare(planned(), rows, list(SETS))
    assert found.found == by_hand(*rows, seeds=(2, 3))
    table = contrasts_table([found])
    cells = dict(zip([column.key for column in table.columns], table.rows[0], strict=True))
    assert cells["seeds"] == "2 of 3"
    assert any("Two seeds: the interval covers about 88 %" in note for note in table.notes)


def test_a_reference_is_the_same_for_every_seed():
    rows = [row("a"), row("untouched", reference="untouched")]
    found = compare(planned(against="untouched"), rows, list(SETS))
    assert found.found == by_hand(*rows, seeds=(1, 2, 3))
    both = [row("bm25", reference="bm25"), rows[1]]
    between = compare(planned("bm25", "untouched"), both, list(SETS))
    assert between.found == by_hand(*both, seeds=(None,))
    assert (between.seeds, between.asked) == (0, 0)
    assert len(contrasts_table([between]).notes) == 2  # nothing of seeds


def test_one_seed_is_blind_to_training_noise_and_says_so():
    found = compare(planned(primary=True), [row("a", (1,)), row("b", (1,))], list(SETS))
    table = contrasts_table([found])
    assert "One seed: blind to training noise." in table.notes
    assert 0 < table.rows[0][6] <= 1  # p of queries alone, which is that of a primary one
    assert table.rows[0][4] == table.rows[0][5] == table.rows[0][6]
    secondary = contrasts_table([compare(planned(), [row("a", (1,)), row("b", (1,))], list(SETS))])
    assert secondary.rows[0][4] == found.found.p_value
    several = compare(planned(primary=True), [row("a"), row("b")], list(SETS))
    assert contrasts_table([several]).rows[0][4] == several.found.p_value


def test_what_was_not_measured_is_so_and_what_compares_not_says_why():
    missing = compare(planned(), [row("a", (1,)), row("b", (2,))], list(SETS))
    assert (missing.found, missing.why) == (None, "not measured")
    fewer = {**SETS, "scifact": {"": 39}}
    other = compare(planned(), [row("a"), row("b", sets=fewer)], list(SETS))
    assert other.why == "not comparable: other queries of scifact"
    single = {"scifact": {"": 1}}
    alone = compare(planned(), [row("a", sets=single), row("b", sets=single)], ["scifact"])
    assert alone.why == "not comparable: one query of scifact"
    for one, shown in ((missing, None), (other, other.why), (alone, alone.why)):
        table = contrasts_table([one])
        assert table.rows[0][2] == shown
        assert f"a − b: {one.why}." in table.notes


def test_the_plans_question_is_the_default_and_comes_first():
    names = ("untouched", "baseline_no_isotropy", "with_isotropy", "frozen_efficient")
    rows = [row(name, reference="untouched" if name == "untouched" else None) for name in names]
    found = planned_contrasts((), rows)
    assert [(one.arm, one.against, one.primary) for one in found] == [
        ("with_isotropy", "baseline_no_isotropy", True),
        *((name, "untouched", False) for name in names[1:]),
    ]
    without = planned_contrasts((), [rows[0], rows[3]])
    assert [(one.arm, one.primary) for one in without] == [("frozen_efficient", True)]
    assert planned_contrasts((planned("with_isotropy", "nobody"),), rows) == []


def test_the_table_has_holms_p_over_all_and_a_verdict_each():
    rows = [row("a", shift=0.2), row("b"), row("c")]
    asked = [planned("c", "b"), planned("a", "b", primary=True)]
    compared = [compare(one, rows, list(SETS)) for one in asked]
    table = contrasts_table(compared, smallest_effect=50)
    assert [cells[0] for cells in table.rows] == ["a − b", "c − b"]
    adjusted = holm({one.planned.name: one.found.p_value for one in compared})
    assert [cells[5] for cells in table.rows] == [adjusted["a − b"], adjusted["c − b"]]
    assert table.rows[0][3] == "above 0, equivalent"
    assert verdict(compared[1].found) in ("above 0", "below 0", "not told apart from 0")
    by_set = sets_table(compared)
    assert [cells[0] for cells in by_set.rows] == list(SETS)
    assert [table.notes[0]] == answers(compared, 50)
    assert answers(compared)[0].startswith("a − b is +")
    assert " of nDCG@10 over 2 sets and 3 seeds: above 0." in answers(compared)[0]
    assert table.notes[0].endswith(": above 0, equivalent within ±50 points.")
    lacking = compare(planned("a", "b", metric="recall@7"), rows, list(SETS))
    unseen = contrasts_table(compared[1:], [*compared, lacking])
    assert unseen.rows[0][5] == pytest.approx(min(1, 3 * compared[1].found.p_value))
    other = compare(planned("a", "b", primary=True, metric="mrr@10"), rows, list(SETS))
    assert " of mrr@10 over " in answers([other])[0]
    assert forest_figure(other).x_label == "Difference of mrr@10 in points"


def test_what_the_arms_of_a_primary_contrast_differ_in_is_said_once_where_it_is_little():
    rows = [row("a"), row("b"), row("untouched", reference="untouched")]
    a = rows[0].seeds[0].run.profile.training
    rows[1] = with_training(rows[1], a.model_copy(update={"lambda_isotropy": 0.3}))
    asked = [
        planned("b", "a", primary=True),
        planned("b", "a", primary=True, form="binary"),
        planned("b", "untouched", primary=True),
    ]
    compared = [compare(one, rows, list(SETS)) for one in asked]
    (said,) = what_differs(compared)
    assert said == f"b and a differ in training.lambda_isotropy (0.3 and {a.lambda_isotropy})."
    many = {"scale": 1.0, "max_steps": 7, "epochs": 9, "batch_size": 3}
    rows[1] = with_training(rows[1], a.model_copy(update=many))
    assert what_differs([compare(asked[0], rows, list(SETS))]) == []
    alike = [compare(asked[0], [row("a"), row("b")], list(SETS))]
    assert what_differs(alike) == []


def with_training(one, training):
    def changed(seed):
        profile = seed.run.profile.model_copy(update={"training": training})
        return replace(seed, run=replace(seed.run, profile=profile))

    return replace(one, seeds=tuple(map(changed, one.seeds)))


def test_one_seed_is_said_to_be_blind_in_the_answer_and_below_the_table():
    rows = [row("a", (1,), shift=0.2), row("b", (1,)), row("untouched", reference="untouched")]
    (said,) = answers([compare(planned("a", "b", primary=True), rows, list(SETS))])
    assert " over 2 sets and one seed, blind to training noise: above 0." in said
    assert "interval of other queries; one seed is blind" in results_table(rows).notes[0]
    assert "queries and other training seeds." in results_table([row("a"), row("b")]).notes[0]


def test_the_results_table_has_the_same_differences():
    rows = [row("untouched", reference="untouched"), row("a")]
    found = compare(planned(against="untouched"), rows, list(SETS)).found
    cells = results_table(rows).rows[1]
    assert Difference(found.mean, *found.interval()) in cells
    assert pytest.approx(found.mean) == cells[4].mean - results_table(rows).rows[0][4]


def test_bold_is_the_best_and_what_its_contrast_does_not_put_below_it():
    rows = [row("a", shift=0.01), row("b", shift=0.012), row("c", shift=-0.3)]
    table = results_table(rows)
    assert {key for _, key in table.best} == {"scifact", "cqadupstack", "average"}
    for key in ("scifact", "cqadupstack"):
        means = {each.name: np.mean(each.means(key)) for each in rows}
        best = max(means, key=means.get)
        expected = {best} | {
            name
            for name in means
            if name != best and compare(planned(name, best), rows, [key]).found.interval()[1] >= 0
        }
        assert {name for name, column in table.best if column == key} == expected
        assert "c" not in expected
    assert results_table([row("a")]).best == frozenset()


def test_of_several_starts_an_arm_is_held_against_its_own():
    arm, first, second = row("a"), row("start (x)", reference="untouched_start"), row("b")
    other = RunProfile.model_validate({"name": "y", "encoder": {"output_dim": 8}})
    run = Run(other, None, "untouched_start", SPACE)
    drawn = row("start (y)", reference="untouched_start").seeds[0]
    second = ModelRow("start (y)", (replace(drawn, run=run),))
    asked = planned(against="untouched_start")
    for rows in ([arm, first, second], [second, arm, first]):
        assert planned_contrasts([asked], rows) == [asked]
        found = compare(asked, rows, list(SETS))
        assert found.found == by_hand(arm, first, (1, 2, 3))
        assert "start (x)" in found.name
    assert planned_contrasts([asked], [arm, second]) == []


def test_that_queries_were_made_for_a_set_is_said_once():
    said = "proxy queries: passages of 'mine' are asked for by titles"
    rows = [row("a"), row("b")]
    made = [
        replace(one, seeds=tuple(replace(s, proxies=(said,)) for s in one.seeds)) for one in rows
    ]
    notes = results_table(made).notes
    assert notes.count(f"P{said[1:]}.") == 1
    assert not [note for note in results_table(rows).notes if "roxy queries" in note]
