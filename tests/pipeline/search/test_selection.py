import pytest

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.search import judged as test_sets
from ragcun_cli.pipeline.search.held_out import (
    digests_of,
    read_selection_set,
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
    return read_selection_set(folder, "mine", "train", settings, seed=seed, batch_size=8)


def test_a_sample_has_its_relevant_passages_and_some_others(folder):
    test = selected(folder).test
    assert len(test.queries) == 5
    assert len(test.corpus) == 20
    assert "q29" not in test.queries
    for query, judged in test.qrels.items():
        assert any(grade > 0 for grade in judged.values())
        assert f"p{query[1:]}" in test.corpus.ids


def test_the_sample_is_of_its_seed_alone(folder):
    first, again = selected(folder).test, selected(folder).test
    assert (first.queries, first.corpus.ids[:]) == (again.queries, again.corpus.ids[:])
    assert selected(folder).test.queries != selected(folder, seed=2).test.queries


def test_more_than_there_is_takes_all(folder):
    test = selected(folder, queries=500, passages=500).test
    assert (len(test.queries), len(test.corpus)) == (29, 60)


def test_queries_with_the_same_words_are_held_out_too(folder):
    chosen = selected(folder)
    name, text = next(iter(chosen.test.queries.items()))
    queries = beir.read_queries(folder) | {"copy": text.upper().replace("?", " ..."), "new": "new?"}
    held_out = chosen.queries_of(queries)
    assert {name, "copy"} <= held_out
    assert "new" not in held_out
    assert len(held_out) == 6


def test_a_test_set_that_shares_a_query_is_refused(folder, tmp_path):
    chosen = selected(folder)
    text = next(iter(chosen.test.queries.values()))
    corpus = chosen.test.corpus
    test = test_sets.JudgedSet(
        "nfcorpus", corpus, {"other": text.lower()}, {"other": {corpus.ids[0]: 1}}
    )
    digests = digests_of(chosen.test.queries)
    with pytest.raises(DataError, match=r"1 queries of the selection set .* 'nfcorpus'"):
        refuse_test_queries(digests, test, where="a run")
    fresh = test_sets.JudgedSet(
        "nfcorpus", corpus, {"other": "unseen"}, {"other": {corpus.ids[0]: 1}}
    )
    refuse_test_queries(digests, fresh, where="a run")


def test_a_finished_run_remembers_what_it_was_selected_on(folder, tmp_path):
    assert recorded_digests(tmp_path) == []
    chosen = selected(folder)
    chosen.write(tmp_path)
    digests = recorded_digests(tmp_path)
    assert sorted(digests) == sorted(digests_of(chosen.test.queries))
    with pytest.raises(DataError):
        refuse_test_queries(
            digests, test_sets.read_judged_set("mine", folder, split="train"), where="a run"
        )
