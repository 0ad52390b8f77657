import json

import pytest

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.evaluation import scores
from ragcun_cli.pipeline.search import judged as test_sets
from ragcun_cli.pipeline.search.rankings import write_run
from ragcun_cli.spec.paths import run_file


def made(name, qrels):
    ids = {passage for judged in qrels.values() for passage in judged}
    corpus = Corpus.of({passage: passage for passage in ids})
    return test_sets.JudgedSet(name, corpus, {query: query for query in qrels}, qrels)


def written(tests, rankings, folder, *, variants=(), depth=100):
    for test, ranking in zip(tests, rankings, strict=True):
        write_run(ranking, folder / run_file(test.file_stem), tag="t")
        for variant in variants:
            shorter = {query: hits[:1] for query, hits in ranking.items()}
            write_run(shorter, folder / run_file(test.file_stem, variant), tag="t")
    content = scores.write_scores(
        tests, folder, folder / "draft", depth=depth, variants=variants, settings={"a": 1}
    )
    kept = json.loads((folder / "draft/metrics.json").read_text())
    assert kept == json.loads(json.dumps(content))
    rows = (folder / "draft/per_query.jsonl").read_text().splitlines()
    return content, [json.loads(row) for row in rows]


def test_a_judged_query_without_results_counts_zero(tmp_path):
    test = made("set", {"a": {"p": 1}, "b": {"p": 1}})
    content, rows = written([test], [{"a": [("p", 2.0)]}], tmp_path)
    assert content["metrics"]["ndcg@10"] == 0.5
    assert [(row["query"], row["ndcg@10"]) for row in rows] == [("a", 1.0), ("b", 0.0)]
    assert "recall@1000" not in content["metrics"]
    assert content["settings"] == {"a": 1}


def test_of_several_parts_the_means_are_means_over_parts(tmp_path):
    first = made("many/first", {"a": {"p": 1}, "b": {"p": 1}, "c": {"p": 1}})
    second = made("many/second", {"a": {"q": 1}})
    rankings = [{"a": [("p", 1.0)]}, {"a": [("q", 1.0)]}]
    content, rows = written([first, second], rankings, tmp_path)
    assert content["metrics"]["ndcg@10"] == pytest.approx((1 / 3 + 1) / 2)
    assert {part: scores["ndcg@10"] for part, scores in content["parts"].items()} == {
        "first": pytest.approx(1 / 3),
        "second": 1.0,
    }
    assert [(row["part"], row["query"]) for row in rows] == [
        ("first", "a"), ("first", "b"), ("first", "c"), ("second", "a"),
    ]  # fmt: skip
    assert set(content["calibration"]) == {"first", "second"}


def test_smaller_forms_are_scored_from_their_own_run_files(tmp_path):
    test = made("set", {"a": {"p": 1, "q": 1}})
    hits = {"a": [("p", 2.0), ("q", 1.0)]}
    content, _ = written([test], [hits], tmp_path, variants=["int8"])
    assert content["metrics"]["recall@10"] == 1.0
    assert content["variants"]["int8"]["recall@10"] == 0.5
    assert "recall@1000" not in content["variants"]["int8"]


def test_calibration_is_of_the_best_hit_of_each_query_with_hits(tmp_path):
    names = [f"q{number:02}" for number in range(60)]
    test = made("set", {name: {"p": 1, "x": 0, "y": 0} for name in names})
    right = [number % 3 > 0 for number in range(60)]
    ranking = {
        name: [("p" if good else "x", 1.0 + good + number / 100), ("y", 0.0)]
        for number, (name, good) in enumerate(zip(names, right, strict=True))
        if number != 7
    }
    content, _ = written([test], [ranking], tmp_path)
    found = content["calibration"]
    assert (found["queries"], found["relevant"]) == (59, sum(right) - right[7])
    assert 0.5 < found["auroc"] <= 1
    assert found["aurc_best"] <= found["aurc"] < found["aurc_random"]
    few, _ = written([made("set", {"a": {"p": 1}})], [{"a": [("p", 1.0)]}], tmp_path / "few")
    assert few["calibration"]["ece"] is None
    assert few["calibration"]["reason"]
