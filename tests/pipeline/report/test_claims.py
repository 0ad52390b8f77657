"""Claims, judged by results that are written here."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ragcun_cli.core.isotropy.half_samples import half_width
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.claims import Evidence, judge
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Difference, WithInterval
from ragcun_cli.pipeline.report.tables.claims import claims_table
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import Claim
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))
SETS = ("scifact", "fiqa")


def measures(score, *, digest="same", dimensions=512):
    halves = np.linspace(-0.01, 0.01, 19) * score
    return {
        "texts": 1000,
        "dimensions": dimensions,
        "texts_digest": digest,
        "plan_score": score - 0.1,
        "plan_score_corrected": score,
        "plan_score_of_gaussian": 0.902,
        "intervals": {"plan_score_corrected": [score - 0.02, score + 0.02]},
        "half_differences": {"plan_score_corrected": halves.tolist()},
    }


def row(name, means, *, isotropy=(), sets=SETS, spread=0.1, reference=None, **measured):
    """A row with a mean for each seed, its queries spread evenly about it."""
    profile = RunProfile.model_validate({"name": "x", "evaluation": {"datasets": list(SETS)}})
    seeds = []
    for number, mean in enumerate(means):
        values = {
            "": mean + np.random.default_rng(number).permutation(np.linspace(-1, 1, 400)) * spread
        }
        columns = ScoreColumns({"": "digest"}, {("float32", "ndcg@10"): values})
        metrics = {name: {"metrics": {"ndcg@10": mean}} for name in sets}
        found = {"queries": measures(isotropy[number], **measured)} if isotropy else None
        run = Run(profile, None if reference else number + 1, reference, SPACE)
        seeds.append(SeedResults(run, None, {}, dict.fromkeys(sets, columns), found, metrics, {}))
    return ModelRow(name, tuple(seeds))


def judged(measure, found, **more):
    claim = Claim.model_validate({"name": "it", "measure": measure} | more)
    evidence = Evidence(found, SETS, SETS, "ragcun reproduce --profile mine")
    return judge(claim, evidence)


GAIN = {"arm": "with", "against": "without"}


@pytest.mark.parametrize(
    ("above", "verdict"), [(-1.0, "shown"), (0.7, "shown"), (1.0, "undecided"), (1.3, "not met")]
)
def test_a_gain_is_shown_where_its_whole_interval_lies_above_the_bound(above, verdict):
    with_, without = row("with", (0.511, 0.510, 0.509)), row("without", (0.5, 0.5, 0.5))
    found = judged("gain", [with_, without], **GAIN, above=above)
    assert found.verdict == verdict
    assert isinstance(found.measured, Difference)
    assert found.measured.value == pytest.approx(1.0)
    assert (found.measured.low > above) == (verdict == "shown")
    assert (found.measured.high < above) == (verdict == "not met")
    assert found.why.startswith("over 2 of 2 data sets")


def test_what_would_decide_an_undecided_claim_decides_it():
    few = [row("with", (0.513, 0.510, 0.507)), row("without", (0.5, 0.5, 0.5))]
    found = judged("gain", few, **GAIN, above=0.5)
    assert found.verdict == "undecided"
    seeds = int(found.why.split("; ")[1].split()[0])
    assert found.why.endswith(f"{seeds} seeds would decide it, were it as measured")
    means = np.resize([0.513, 0.510, 0.507], 3 * math.ceil(seeds / 3))
    more = [row("with", means), row("without", [0.5] * len(means))]
    assert judged("gain", more, **GAIN, above=0.5).verdict == "shown"


def test_of_one_seed_queries_would_decide_and_the_claim_is_blind_to_training_noise():
    rows = [row("with", (0.505,)), row("without", (0.5,), spread=0.3)]
    found = judged("gain", rows, **GAIN, above=0.0)
    assert found.verdict == "undecided"
    assert "blind to training noise; " in found.why
    assert found.why.endswith("times the queries would decide it, were it as measured")


def test_an_average_has_the_interval_of_its_own_scores():
    found = judged("average", [row("with", (0.48, 0.49, 0.50))], arm="with", above=46)
    assert type(found.measured) is WithInterval
    assert found.measured.value == pytest.approx(49)
    assert (found.verdict, judged("average", [], arm="with", above=46).verdict) == (
        "shown",
        "not measured",
    )


def test_isotropy_is_judged_on_the_corrected_score_with_students_t_over_seeds():
    scores = (0.95, 0.97, 0.96)
    found = judged("isotropy", [row("with", (0.5,) * 3, isotropy=scores)], arm="with", above=0.94)
    low, high = stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores))
    assert (found.measured.low, found.measured.high) == pytest.approx((low, high))
    assert found.verdict == "undecided"
    assert found.why.endswith("; about 5 seeds would decide it, were it as measured")
    assert "as the plan has it 0.860" in found.why
    assert "Gaussian of that n and d = 512 has 0.902" in found.why
    one = judged("isotropy", [row("with", (0.5,), isotropy=(0.97,))], arm="with", above=0.94)
    assert (one.measured.low, one.measured.high) == pytest.approx((0.95, 0.99))
    assert one.verdict == "shown"
    assert one.why.endswith("one seed: blind to training noise")


def test_an_isotropy_gain_pairs_seeds_and_of_one_seed_half_samples():
    ours, theirs = (0.96, 0.95, 0.97), (0.9, 0.88, 0.9)
    rows = [row("with", (0.5,) * 3, isotropy=ours), row("without", (0.5,) * 3, isotropy=theirs)]
    found = judged("isotropy_gain", rows, **GAIN, above=0.05)
    gains = np.subtract(ours, theirs)
    assert (found.measured.low, found.measured.high) == pytest.approx(
        stats.t.interval(0.95, 2, gains.mean(), stats.sem(gains))
    )
    assert found.verdict == "shown"
    one = [row("with", (0.5,), isotropy=(0.96,)), row("without", (0.5,), isotropy=(0.9,))]
    single = judged("isotropy_gain", one, **GAIN, above=0.05)
    width = half_width(np.linspace(-0.01, 0.01, 19) * 0.06)
    assert single.measured.high - single.measured.value == pytest.approx(width)
    reference = row("untouched_start", (0.5,), isotropy=(0.9,), reference="untouched_start")
    paired = judged(
        "isotropy_gain", [rows[0], reference], arm="with", against="untouched_start", above=0.05
    )
    assert paired.measured.value == pytest.approx(np.mean(ours) - 0.9)


def test_isotropy_of_other_texts_or_dimensions_is_not_compared():
    for other in ({"digest": "other"}, {"dimensions": 768}):
        rows = [
            row("with", (0.5,), isotropy=(0.96,)),
            row("without", (0.5,), isotropy=(0.9,), **other),
        ]
        found = judged("isotropy_gain", rows, **GAIN, above=0.05)
        assert (found.verdict, found.measured) == ("not measured", None)
        assert found.why == "not comparable: other texts or dimensions"


def test_what_is_not_there_reads_not_measured_with_the_command():
    there = row("with", (0.5,))
    lexical = row("bm25", (0.5,), reference="bm25")
    never = judged("isotropy", [lexical], arm="bm25", above=0.9)
    assert (never.verdict, never.why) == ("not measured", "bm25 has no embeddings")
    for measure, more in (
        ("gain", {**GAIN, "above": 1}),
        ("isotropy", {"arm": "with", "above": 1}),
        ("isotropy_gain", {**GAIN, "above": 1}),
        ("rows", {"rows": ["with", "frozen"]}),
    ):
        found = judged(measure, [there], **more)
        assert (found.verdict, found.measured) == ("not measured", None)
        assert found.why == "ragcun reproduce --profile mine"
    sets = judged("data_sets", [row("with", (0.5,), sets=SETS[:1])], above=2)
    assert (sets.verdict, sets.measured) == ("not measured", "1 of 2")
    assert "lacking: fiqa; ragcun reproduce" in sets.why


def test_rows_sets_and_evidence_need_no_number():
    there = row("with", (0.5,))
    assert judged("rows", [there], rows=["with"]).verdict == "shown"
    assert judged("data_sets", [there], above=2).verdict == "shown"
    few = judged("data_sets", [there], above=18)
    assert (few.verdict, few.measured, few.why) == (
        "not met",
        "2 of 2",
        "the plan has 2 data sets",
    )
    evidence = judged("none", [there], evidence="docs/METHOD.md")
    assert (evidence.verdict, evidence.why) == ("see evidence", "docs/METHOD.md")
    other = judged("rows", [there], name="other", rows=["with"], expected="all")
    table = claims_table([evidence, other])
    assert [column.label for column in table.columns][2] == "The original plan expected"
    assert [cells[3] for cells in table.rows] == ["–", "–"]
    assert claims_table([]) is None
