"""`ragcun isotropy --what-if`."""

import json
import shutil

import pytest


@pytest.fixture
def climb(ragcun, workspace):
    def run(*words):
        return ragcun("isotropy", "--what-if", *words, "-w", workspace)

    return run


def written(workspace):
    (file,) = workspace.glob("runs/untouched/*/what_if.json")
    return file


def test_a_ladder_its_report_and_a_second_call(climb, ragcun, workspace, model):
    words = (model, "--datasets", "smoke-numpy", "smoke-sklearn", "--dev", "smoke")
    outcome = climb(*words)
    assert outcome.code == 0, outcome.err
    assert "whitening-0.5" in outcome.out
    assert "Best free change, binary: " in outcome.out
    content = json.loads(written(workspace).read_text())
    assert {"int8", "binary", "truncate-8", "truncate-5"} <= set(content["chosen"])
    report = workspace / "reports/what-if-model"
    pages = {file.name for file in report.rglob("*") if file.is_file()}
    assert pages == {
        *(f"report.{kind}" for kind in ("html", "md", "tex", "csv", "json")),
        *("what-if-forest.pdf", "what-if-forest.svg"),
    }
    assert "whitening-0.25" in (report / "report.html").read_text()
    before = {file: file.read_bytes() for file in (written(workspace), *report.glob("*.*"))}
    shutil.rmtree(workspace / "cache/base-outputs")
    again = climb(*words, "--json")
    assert "nothing to do: all is current" in again.err
    assert again.out == written(workspace).read_text()
    assert {file: file.read_bytes() for file in before} == before
    evaluated = ragcun("eval", "--model", model, *words[1:4], "--json", "-w", workspace)
    scores = {one["dataset"]: one["metrics"]["ndcg@10"] for one in json.loads(evaluated.out)}
    assert content["untouched"]["by_set"] == pytest.approx(scores, abs=1e-9)
    for command in ("report", "isotropy", "reproduce --profile smoke --clean"):
        assert ragcun(*command.split(), "-w", workspace).code == 0


def test_outputs_are_those_of_a_search_of_the_untouched_base(climb, workspace):
    """The plan's untouched run has searched these sets, and not encoded the dev queries."""
    folder = workspace / "cache/base-outputs"
    kept = {*folder.rglob("*.npy")}
    words = ("ragcun/tiny", "--datasets", "smoke-numpy", "smoke-sklearn", "--set")
    assert climb(*words, "encoder.max_seq_length=32").code == 0
    assert {*folder.rglob("*.npy")} == kept
    assert climb(*words, "encoder.max_seq_length=16").code == 0
    more = {*folder.rglob("*.npy")}
    assert len(more - kept) == 4
    assert climb(*words, "encoder.max_seq_length=16", "--force").code == 0
    assert {*folder.rglob("*.npy")} == more


def test_without_dev_queries_nothing_is_chosen(climb, workspace, model):
    outcome = climb(model, "--datasets", "smoke-numpy")
    assert outcome.code == 0, outcome.err
    assert "Not chosen: no set has dev queries." in outcome.out
    assert json.loads(written(workspace).read_text())["chosen"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no/such-model", "--datasets", "smoke-numpy"), "no/such-model"),
        (("ragcun/tiny", "--datasets", "elsewhere"), "no data set 'elsewhere'"),
        (("ragcun/tiny", "--datasets", "smoke"), "judgements of test"),
        (("ragcun/tiny", "-d", "smoke-numpy", "--dev", "smoke-sklearn"), "judgements of dev"),
        (("ragcun/tiny", "-d", "smoke-numpy", "--profile", "smoke"), "--what-if MODEL"),
        (("ragcun/tiny", "-d", "smoke-numpy", "--seed", "1"), "--what-if MODEL"),
        (("ragcun/tiny", "-d", "smoke-numpy", "--set", "training.epochs=2"), "training.epochs"),
    ],
)
def test_what_cannot_be_meant_is_refused(climb, workspace, words, said):
    outcome = climb(*words)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Hint:" in outcome.err
    assert not list(workspace.rglob("what_if.json"))


def test_sets_without_a_model_are_refused(ragcun, workspace):
    outcome = ragcun("isotropy", "--datasets", "smoke-numpy", "-w", workspace)
    assert outcome.code == 2
    assert "--what-if MODEL" in outcome.err
