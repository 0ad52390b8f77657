"""`--experiment`, `--references` and names of several data sets, through the command line."""

import json
import shutil

import pytest

from ragcun_cli.pipeline.data import sources

SMOKE = ("--profile", "smoke")


def planned(ragcun, *words):
    outcome = ragcun("reproduce", *words, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    return [stage["what"] for stage in json.loads(outcome.out)["stages"]]


def rows(ragcun, workspace, *words):
    outcome = ragcun("report", *words, "-w", workspace, "--json")
    assert outcome.code == 0, outcome.err
    table = next(t for t in json.loads(outcome.out)["tables"] if t["key"] == "results")
    return [row["model"] for row in table["rows"]]


def test_one_experiment_of_a_plan_is_reproduced_alone(ragcun, smoke_workspace):
    where = ("-w", smoke_workspace, *SMOKE)
    whole = planned(ragcun, *where)
    part = planned(ragcun, *where, "--experiment", "with_isotropy")
    assert set(part) < set(whole)
    assert [what for what in part if what.startswith("train")] == [
        f"train with_isotropy, seed {seed}" for seed in (1, 2)
    ]
    two = ("--experiment", "standard_cosine", "--experiment", "with_isotropy", "--seed", "2")
    trained = [what for what in planned(ragcun, *where, *two) if what.startswith("train")]
    assert trained == [f"train {name}, seed 2" for name in ("with_isotropy", "standard_cosine")]


@pytest.mark.parametrize("command", ["mine", "train", "eval", "isotropy", "report", "reproduce"])
def test_every_command_knows_which_experiments_a_plan_has(ragcun, smoke_workspace, command):
    outcome = ragcun(command, *SMOKE, "--experiment", "isotropic", "-w", smoke_workspace)
    assert outcome.code == 2
    said = "'isotropic' is not an experiment of smoke; these are: baseline_no_isotropy, with_isotro"
    assert said in outcome.err
    assert "Hint: ragcun profile show smoke" in outcome.err


def test_of_what_is_finished_an_experiment_is_shown_with_its_base(ragcun, smoke_workspace):
    found = rows(ragcun, smoke_workspace, "--experiment", "with_isotropy")
    assert found == ["untouched", "untouched_start", "bm25", "with_isotropy"]
    words = ("report", "-w", smoke_workspace, "--experiment", "without", "--seed", "1")
    outcome = ragcun(*words)
    assert outcome.code == 2
    assert "'without' is not an experiment of smoke" in outcome.err
    outcome = ragcun(*words, "--all-runs")
    assert outcome.code == 2
    assert "no finished run of without with seed 1 in " in outcome.err


def test_a_value_that_takes_away_what_is_compared_is_told(ragcun, smoke_workspace):
    words = ("reproduce", *SMOKE, "-w", smoke_workspace, "--dry-run", "--set")
    both = ragcun(*words, "training.lambda_isotropy=0.5")
    said = "--set training.lambda_isotropy gives with_isotropy and baseline_no_isotropy the same"
    assert both.code == 0
    assert said in both.err
    assert "--experiment with_isotropy" in both.err
    one = ragcun(*words, "training.lambda_isotropy=0.5", "--experiment", "with_isotropy")
    other = ragcun(*words, "training.scale=10")
    for outcome in (one, other):
        assert outcome.code == 0
        assert " the same value" not in outcome.err


def test_a_part_of_a_plan_leaves_the_whole_current(ragcun, smoke_workspace, tmp_path):
    where = ("-w", shutil.copytree(smoke_workspace, tmp_path / "ws"))
    part = ("--experiment", "frozen_efficient", "--set", "training.scale=7", "--run", "untouched")
    assert ragcun("reproduce", *SMOKE, *where, *part).code == 0
    outcome = ragcun("reproduce", *SMOKE, *where, "--dry-run", "--json")
    assert not [one for one in json.loads(outcome.out)["stages"] if one["state"] != "current"]


def test_a_seed_that_a_plan_has_not_is_said_to_be_new(ragcun, smoke_workspace):
    dry = ("--dry-run", "-w", smoke_workspace)
    for words, said in (
        (
            (*SMOKE, "--seed", "2", "--seed", "7", "--seed", "8"),
            "--seed 7, 8: not among the seeds",
        ),
        ((*SMOKE, "--seed", "2"), ""),
        (("--profile", "with_isotropy", "--seed", "7"), ""),
    ):
        outcome = ragcun("reproduce", *words, *dry)
        assert outcome.code == 0, outcome.err
        assert said in outcome.err
        assert outcome.err.count("such trainings are new") == bool(said)


def test_references_are_those_that_are_asked_for(ragcun, smoke_workspace):
    arm = ("--experiment", "spread_out")
    for names, expected in (
        ("bm25,untouched", ["bm25", "untouched"]),
        ("untouched_pca", ["untouched_start"]),
        ("none", []),
    ):
        words = (*SMOKE, *arm, "--references", names)
        assert rows(ragcun, smoke_workspace, *words) == [*expected, "spread_out"]
    for words, said in (
        ((*SMOKE, "--references", "bm52"), "'bm52' is not a reference; these are: untouched, "),
        ((*SMOKE, "--references", "none,bm52"), "none alone; did you mean 'bm25'?"),
        ((*SMOKE, "--references", "bm25,none"), "none stands alone"),
        ((*SMOKE, "--experiment", "with_isotropi"), "did you mean 'with_isotropy'?"),
        (
            ("--all-runs", "--references", "bm25"),
            "--references changes a profile, and none is named",
        ),
    ):
        outcome = ragcun("report", *words, "-w", smoke_workspace)
        assert outcome.code == 2
        assert said in outcome.err


def test_the_question_says_how_to_ask_for_less(ragcun, tmp_path, smoke_workspace):
    """After a plan of minutes, an experiment of it was asked for by its name: days."""
    outcome = ragcun("train", "--profile", "with_isotropy", "-w", tmp_path)
    assert outcome.code == 2
    plans = "never_trained|publication|publication_minimum|quickstart|smoke"
    less = f"as in a plan: --profile {plans} --experiment with_isotropy"
    assert less in outcome.err
    assert outcome.err.index(less) < outcome.err.index("Go on?")
    outcome = ragcun("reproduce", "--profile", "publication", "-w", tmp_path)
    assert "for one of the 7 experiments: --experiment NAME" in outcome.err
    (tmp_path / "reports/smoke").mkdir(parents=True)
    outcome = ragcun("train", "--profile", "with_isotropy", "-w", tmp_path)
    assert "as in a plan: --profile smoke|never_trained|" in outcome.err


def test_words_for_several_sets_are_the_same_in_every_command(ragcun, smoke_workspace, tmp_path):
    said = "not available, left out: "
    for group in ("beir", "public"):
        got = ragcun("data", "get", group, "-w", tmp_path)
        model = ("--model", "ragcun/tiny", "--datasets", group)
        scored = ragcun("eval", *model, "-w", tmp_path)
        for outcome in (got, scored):
            assert outcome.code == 2
            assert "nothing was run" in outcome.err
            assert (said in outcome.err) == (group == "beir")
            brought = {name for name in sources.BEIR if f"data {name} (" in outcome.err}
            free = set(sources.GROUPS[group]) - sources.GATED
            assert outcome is got or brought == free
    outcome = ragcun("data", "get", "all", "-w", tmp_path)
    assert (outcome.code, "Hint: ragcun data get --profile NAME" in outcome.err) == (2, True)
    outcome = ragcun("data", "import", tmp_path, "--name", "public", "-w", tmp_path)
    assert "'public' is no name for a data set" in outcome.err
