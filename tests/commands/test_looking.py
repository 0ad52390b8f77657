"""`ragcun eval` where somebody looks at hits: typed queries, disagreements, pages."""

import json
import re
import shutil

import pytest

from ragcun_cli.core.rankings.metrics import score_queries
from ragcun_cli.pipeline.data.sets import beir


@pytest.fixture
def models(smoke_workspace):
    """Three models, the last one of another width than the others."""
    trained = [
        next(smoke_workspace.glob(f"runs/{name}/*/seed-1/model"))
        for name in ("with_isotropy", "standard_cosine")
    ]
    return [*trained, smoke_workspace / "data/encoders/tiny"]


@pytest.fixture
def evaluate(ragcun, workspace):
    def run(*words, of, code=0, dataset="smoke-numpy"):
        named = [word for model in of for word in ("--model", model)]
        outcome = ragcun("eval", *words, *named, "-d", dataset, "-w", workspace)
        assert outcome.code == code, outcome.err
        return outcome

    return run


def test_what_is_judged_is_marked_where_the_query_is_one_of_the_set(evaluate, workspace, models):
    folder = workspace / "data/datasets/smoke-numpy"
    (query, text), *_ = beir.read_queries(folder).items()
    ((judged, grade),) = beir.read_qrels(folder, "test")[query].items()
    words = ("--query", f"  {text} ")
    found = json.loads(evaluate(*words, "--json", of=models).out)
    assert list(found) == [*map(str, models)]
    seen = [hit for hits in found.values() for hit in hits]
    assert {hit["grade"] for hit in seen if hit["passage"] == judged} <= {grade}
    assert all(hit["grade"] is None for hit in seen if hit["passage"] != judged)
    for label, hits in found.items():
        assert [hit["ranks"][label] for hit in hits] == [*range(1, 11)]
    shown = evaluate(*words, of=models).out
    assert f"{judged}" in shown
    assert "judged: 1, relevant: 1" in shown
    assert shown.startswith(f"smoke-numpy: {text}")
    other = evaluate("--query", "等方性 <b>&", of=models[:1]).out
    assert "judged" not in other
    assert "B4" not in other


def test_more_than_three_models_stand_one_below_the_other(evaluate, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [
        shutil.copytree(source, f"m{number}")
        for number, source in enumerate([*models, models[0]], 1)
    ]
    heads = []
    for some in (names[:3], names):
        shown = evaluate("--query", "sort an array", of=some).out
        lines = (" ".join(line.split()) for line in shown.splitlines())
        heads.append([line for line in lines if re.match("[A-D] m", line)])
    assert heads == [["A m1 B m2 C m3"], ["A m1", "B m2", "C m3", "D m4"]]


def test_disagreements_are_shown_kept_and_written_as_a_page(evaluate, workspace, models, tmp_path):
    words = ("--disagreements", "500")
    outcome = evaluate(*words, "--json", of=models[1:])
    assert "'smoke-numpy' has 80 judged queries; all are shown" in outcome.err
    found = json.loads(outcome.out)
    qrels = beir.read_qrels(workspace / "data/datasets/smoke-numpy", "test")
    assert {one["query"] for one in found} == qrels.keys()
    first, second = map(str, models[1:])
    for one in found:
        for label in (first, second):
            ranked = {one["query"]: [hit["passage"] for hit in one["hits"][label]]}
            own = {one["query"]: qrels[one["query"]]}
            ndcg = score_queries(own, ranked)["ndcg@10"][one["query"]]
            assert one["ndcg"][label] == pytest.approx(ndcg, abs=1e-9)
    gaps = [abs(one["ndcg"][first] - one["ndcg"][second]) for one in found]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0
    page = tmp_path / "page.html"
    again = evaluate("--disagreements", "3", "-o", page, of=models[1:])
    assert "nothing to do: all is current" in again.err
    assert f"written: {page}" in again.err
    assert again.out == ""
    assert page.read_text().count('<section id="query-') == 3
    shown = evaluate("--disagreements", "2", of=models[1:]).out
    assert f"2 of 2, query {found[1]['query']}:" in shown
    assert "of the first 10 in common" in shown


def test_disagreements_are_of_two_models_and_one_set(evaluate, ragcun, workspace, models):
    words = ("--disagreements", "3")
    assert "here are 3" in evaluate(*words, of=models, code=2).err
    twice = evaluate(*words, of=[models[0], models[0]], code=2)
    assert "each named once, and here is 1" in twice.err
    several = evaluate(*words, of=models[1:], code=2, dataset="smoke-numpy,smoke-sklearn")
    assert "in one data set" in several.err
    runs = ragcun(
        *("eval", "--profile", "smoke", "--experiment", "with_isotropy", "--seed", "1", *words),
        *("--references", "bm25", "-d", "smoke-numpy", "-w", workspace, "--no-prerequisites"),
    )
    assert runs.code == 0, runs.err
    assert "B  with_isotropy, seed 1" in runs.out


def test_a_set_without_test_judgements_is_looked_at_and_not_compared(
    evaluate, ragcun, workspace, models, tmp_path
):
    table = tmp_path / "mine.csv"
    table.write_text(
        "query,positive\n" + "".join(f"what is {n},<i>it</i> is {n}\n" for n in range(9))
    )
    taken = ragcun("data", "import", table, "--name", "mine", "-w", workspace)
    assert taken.code == 0, taken.err
    found = json.loads(
        evaluate("--query", "what is 3", "--json", of=models[:1], dataset="mine").out
    )
    assert [hit["text"] for hits in found.values() for hit in hits if hit["grade"]] == [
        "<i>it</i> is 3"
    ]
    page = tmp_path / "page.html"
    evaluate("--query", "what is 3", "-o", page, of=models[:1], dataset="mine")
    assert "<i>" not in page.read_text()
    assert "&lt;i&gt;it&lt;/i&gt; is 3" in page.read_text()
    refused = evaluate("--disagreements", "3", of=models[1:], dataset="mine", code=2)
    assert "needs judgements of test" in refused.err


def test_a_licence_that_is_declared_is_kept_listed_and_inherited(ragcun, workspace, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("query,positive\n" + "".join(f"what is {n},it is {n}\n" for n in range(9)))
    words = ("data", "import", table, "--name", "mine", "-w", workspace)
    blank = ragcun(*words, "--licence", " ")
    assert blank.code == 2
    assert "--licence is empty" in blank.err
    assert ragcun(*words, "--licence", "CC BY\n4.0 [mine]").code == 0
    again = ragcun(*words, "--licence", "CC0")
    assert again.code == 2
    assert "--licence CC0 --force" in again.err
    sample = ("data", "sample", "mine", "--queries", "3", "--passages", "5", "--name", "few")
    assert ragcun(*sample, "-w", workspace).code == 0
    assert ragcun(*words[:3], "--name", "bare", "-w", workspace).code == 0
    rows = json.loads(ragcun("data", "list", "--json", "-w", workspace).out)
    said = {row["name"]: (row["licence"], row["licence_stated_in"]) for row in rows}
    declared = ("CC BY 4.0 [mine]", "the import of who brought it")
    assert (said["mine"], said["few"]) == (declared, declared)
    assert said["bare"][0] == said["nfcorpus"][0] == "not declared"
    assert said["msmarco"] == ("msr-la-nc", "ragcun's registry, after mteb")
    assert "imported (CC BY 4.0 [mine])" in ragcun("data", "list", "-w", workspace).out


def test_a_report_has_the_licences_of_base_and_training_set(ragcun, workspace):
    tables = json.loads(ragcun("report", "-w", workspace, "--json").out)["tables"]
    assert tables[-1]["key"] == "licences"
    said = {(row["part"], row["name"]): row["licence"] for row in tables[-1]["rows"]}
    assert said == {
        ("Base", "ragcun/tiny"): "not declared",
        ("Training set", "smoke"): "that of each library",
    }
    for name in ("report.html", "report.md", "report.tex", "report.csv"):
        assert "that of each library" in (workspace / "reports/smoke" / name).read_text()
