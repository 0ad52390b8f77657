import dataclasses

import numpy as np
import pytest

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.search import judged as test_sets
from ragcun_cli.pipeline.search.held_out import (
    SelectionSet,
    digests_of,
    read_held_out,
    recorded_digests,
    refuse_test_queries,
)
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.training_config import SelectionConfig


@pytest.fixture
def folder(tmp_path):
    passages = {f"p{i:02}": f"passage number {i}" for i in range(60)}
    queries = {f"q{i:02}": f"What is number {i}?" for i in range(30)}
    qrels = {f"q{i:02}": {f"p{i:02}": 1, f"p{i + 30:02}": 0} for i in range(30)}
    qrels["q29"] = {"p01": 0}  # nothing relevant
    beir.write_set(tmp_path, corpus=passages, queries=queries, qrels={"train": qrels})
    return tmp_path


def selected(folder, *, seed=1, **config):
    settings = SelectionConfig(**{"queries": 5, "passages": 20, **config})
    return read_held_out(folder, "mine", "train", settings, seed=seed)


def test_a_sample_has_its_relevant_passages_and_some_others(folder):
    test = selected(folder)
    assert len(test.queries) == 5
    assert len(test.corpus) == 20
    assert "q29" not in test.queries
    for query, judged in test.qrels.items():
        assert any(grade > 0 for grade in judged.values())
        assert f"p{query[1:]}" in test.corpus.ids


def test_the_sample_is_of_its_seed_alone(folder):
    first, again = selected(folder), selected(folder)
    assert (first.queries, first.corpus.ids[:]) == (again.queries, again.corpus.ids[:])
    assert selected(folder).queries != selected(folder, seed=2).queries


def test_more_than_there_is_takes_all(folder):
    test = selected(folder, queries=500, passages=500)
    assert (len(test.queries), len(test.corpus)) == (29, 60)


def test_a_query_that_the_set_reports_on_in_the_same_words_is_left_out(tmp_path):
    passages = {f"p{i}": f"passage number {i}" for i in range(9)}
    queries = {f"q{i}": f"What is {i}?" for i in range(6)} | {"t0": "what is 3", "t1": "Else?"}
    qrels = {
        "dev": {f"q{i}": {f"p{i}": 1} for i in range(6)},
        "test": {"t0": {"p8": 1}, "t1": {"p7": 1}, "q5": {"p5": 1}},
    }
    beir.write_set(tmp_path, corpus=passages, queries=queries, qrels=qrels)
    config = SelectionConfig(queries=50)
    dev = read_held_out(tmp_path, "nfcorpus", "dev", config, seed=1)
    assert set(dev.queries) == {"q0", "q1", "q2", "q4"}
    test = read_held_out(tmp_path, "nfcorpus", "test", config, seed=1)
    assert set(test.queries) == {"t0", "t1", "q5"}


def test_queries_with_the_same_words_are_held_out_too(folder):
    chosen = SelectionSet([selected(folder)], 8)
    name, text = next(iter(chosen.tests[0].queries.items()))
    queries = beir.read_queries(folder) | {"copy": text.upper().replace("?", " ..."), "new": "new?"}
    held_out = chosen.queries_of(queries)
    assert {name, "copy"} <= held_out
    assert "new" not in held_out
    assert len(held_out) == 6


def test_a_test_set_that_shares_a_query_is_refused(folder, tmp_path):
    chosen = selected(folder)
    text = next(iter(chosen.queries.values()))
    corpus = chosen.corpus
    test = test_sets.JudgedSet(
        "nfcorpus", corpus, {"other": text.lower()}, {"other": {corpus.ids[0]: 1}}
    )
    digests = digests_of(chosen.queries)
    with pytest.raises(DataError, match=r"1 queries of the selection set .* 'nfcorpus'"):
        refuse_test_queries(digests, test, where="a run")
    fresh = test_sets.JudgedSet(
        "nfcorpus", corpus, {"other": "unseen"}, {"other": {corpus.ids[0]: 1}}
    )
    refuse_test_queries(digests, fresh, where="a run")


def test_a_finished_run_remembers_what_it_was_selected_on(folder, tmp_path):
    assert recorded_digests(tmp_path) == []
    chosen = SelectionSet([selected(folder)], 8)
    chosen.write(tmp_path)
    digests = recorded_digests(tmp_path)
    assert sorted(digests) == sorted(digests_of(chosen.tests[0].queries))
    with pytest.raises(DataError):
        refuse_test_queries(
            digests, test_sets.read_judged_set("mine", folder, split="train"), where="a run"
        )


def test_several_sets_and_forms_are_scored_each_by_itself(folder, model):
    first, second = selected(folder), selected(folder, seed=3, queries=7, passages=30)
    second = dataclasses.replace(second, name="other")
    chosen = SelectionSet([first, second], 8, ("binary",))
    scores = chosen.scores(model)
    assert list(scores) == ["mine/float32", "mine/binary", "other/float32", "other/binary"]
    for test in (first, second):
        queries = model.encode(list(test.queries.values()))
        passages = model.encode(test.corpus.texts[:])
        gains = []
        for query, judged in zip(queries, test.qrels.values(), strict=True):
            order = np.argsort(-(passages @ query / np.linalg.norm(passages, axis=1)))[:10]
            found = [judged.get(test.corpus.ids[row], 0) for row in order]
            gains.append(sum(g / np.log2(r + 2) for r, g in enumerate(found)))
        assert scores[f"{test.name}/float32"] == pytest.approx(np.mean(gains), abs=1e-6)
    assert scores["mine/binary"] != scores["mine/float32"]
    assert len(chosen.texts) == 12
    assert SelectionSet([first], 8).scores(model) == {"mine/float32": scores["mine/float32"]}
