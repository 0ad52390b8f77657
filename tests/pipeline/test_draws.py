"""What each draw takes, pinned: one that takes something else makes finished runs stale."""

import hashlib
import json

import numpy as np
import pytest
import torch

from ragcun_cli.core.draw import (
    SAMPLE_QUERIES,
    TRAINING_QUERIES,
    name_digest,
    number_of,
    smallest,
)
from ragcun_cli.core.negatives import choose_negatives
from ragcun_cli.core.rankings.calibration import fold_numbers
from ragcun_cli.core.rankings.significance import randomisation_p_value
from ragcun_cli.pipeline.data.bring import derived
from ragcun_cli.pipeline.data.bring.sample import draw_sample
from ragcun_cli.pipeline.data.bring.user_tables import store_table
from ragcun_cli.pipeline.data.pydocs.pairs import Pair, choose_pairs
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sources import Derived
from ragcun_cli.pipeline.isotropy.measure import Texts
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.mining import mine
from ragcun_cli.pipeline.mining.queries import training_queries
from ragcun_cli.pipeline.mining.rows import read_rows
from ragcun_cli.pipeline.search import dense
from ragcun_cli.pipeline.search.held_out import read_held_out
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.pipeline.training import start_encoder
from ragcun_cli.spec.measuring_config import EvaluationConfig, IsotropyConfig
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import DataConfig, RunProfile
from ragcun_cli.spec.training_config import SelectionConfig


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """80 passages, 20 queries with three relevant passages each; an id with braces among them."""
    folder = tmp_path_factory.mktemp("draws") / "sea"
    corpus = {f"p{n:02}": f"tide {n % 7} moon {n % 11} reef {n}" for n in range(79)}
    corpus["{name}"] = "a passage whose id is a template"
    queries = {f"q{n:02}": f"which reef has {n} and tide {n % 7}?" for n in range(20)}
    qrels = {f"q{n:02}": {f"p{n + more:02}": 1 for more in (0, 20, 40)} for n in range(20)}
    beir.write_set(
        folder, corpus=corpus, queries=queries, qrels=dict.fromkeys(("train", "test"), qrels)
    )
    return folder


def test_a_digest_is_the_sha256_of_the_draw_with_its_name_and_seed():
    expected = hashlib.sha256("5:query:{seed}\0ü".encode()).digest()
    assert name_digest(SAMPLE_QUERIES, "{seed}\0ü", seed=5) == expected
    assert number_of(SAMPLE_QUERIES, "{seed}\0ü", seed=5) == int.from_bytes(expected[:8], "big")
    with pytest.raises(KeyError, match="seed"):
        name_digest(SAMPLE_QUERIES, "q")


def test_the_smallest_digests_come_first():
    names = [f"{{name}}{n}\0" for n in range(50)]
    for count in (0, 1, 7, 50, 60):
        ordered = sorted(names, key=lambda name: name_digest(TRAINING_QUERIES, name, seed=3))
        assert smallest(TRAINING_QUERIES, names, count, seed=3) == ordered[:count]


def test_the_texts_of_a_linear_start(dataset, model, monkeypatch):
    encoded = []

    def record(base, texts, **how):
        encoded.extend(texts)
        return torch.zeros(len(texts), 2)

    monkeypatch.setattr(start_encoder, "encode", record)
    profile = RunProfile(name="x", encoder={"head": {"init_passages": 4}})
    start_encoder.start_sample(profile, model, dataset, Silent())
    assert encoded == [
        "tide 1 moon 8 reef 8",
        "tide 3 moon 4 reef 59",
        "tide 4 moon 5 reef 60",
        "tide 2 moon 6 reef 72",
    ]


def test_the_queries_of_a_table_that_are_held_out(tmp_path):
    rows = [{"query": f"question {n}", "positive": f"answer {n}"} for n in range(12)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store_table(tmp_path / "mine.jsonl", tmp_path / "a", dev_queries=2, test_queries=3, seed=7)
    texts = beir.read_queries(tmp_path / "a")
    splits = beir.read_splits(tmp_path / "a")
    found = {split: sorted(texts[query].split()[1] for query in splits[split]) for split in splits}
    assert (found["dev"], found["test"]) == (["10", "7"], ["2", "3", "5"])


def test_the_docstrings_of_a_library():
    pairs = [Pair(f"lib.f{n}", f"query {n}", f"passage {n}") for n in range(30)]
    assert [pair.id for pair in choose_pairs(pairs, limit=5)] == [
        "lib.f3",
        "lib.f27",
        "lib.f29",
        "lib.f8",
        "lib.f12",
    ]


def test_the_training_queries(dataset):
    data = DataConfig(train="sea", max_train_queries=5)
    found = training_queries(dataset, Corpus.open(dataset), data=data, seed=3)
    assert list(found.qrels) == ["q03", "q11", "q12", "q15", "q19"]


def test_the_rows_of_a_mining(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(mine, "QUERIES_COUNTED", 4)
    mine.mine(
        dataset,
        tmp_path,
        data=DataConfig(train="sea"),
        mining=MiningConfig(negatives_per_query=3),
        seed=5,
        workspace=Workspace(tmp_path, tmp_path),
        progress=Silent(),
    )
    rows = list(read_rows(tmp_path / "negatives.jsonl"))
    assert (
        " ".join(row.positive for row in rows)
        == "p00 p41 p22 p23 p44 p25 p06 p07 p48 p49 p10 p11 p12 p53 p34 p55 p36 p57 p38 p39"
    )
    assert [(*row.hard, *row.random) for row in rows[:3]] == [
        ("p43", "p70", "p15"),
        ("p24", "p50", "p55"),
        ("p40", "p18", "p64"),
    ]
    lines = (tmp_path / "details.jsonl").read_text().splitlines()
    counted = [row.query for row, line in zip(rows, lines, strict=True) if "near_duplicate" in line]
    assert counted == ["q03", "q09", "q12", "q15"]


def test_the_negatives_of_a_query():
    names = [f"p{n}" for n in range(40)]
    found = choose_negatives(
        names[:20],
        excluded=["p1"],
        pool=names,
        count=6,
        hard_share=0.5,
        skip_top=2,
        seed=2,
        query_id="q7",
    )
    assert (found.hard, found.random) == (("p14", "p18", "p17"), ("p34", "p33", "p4"))


def test_the_signs_of_a_randomisation():
    differences = {"one": [0.25, -0.5, 0.125, 0.75, 0.0], "two": [0.5, 0.375, -0.25]}
    assert randomisation_p_value(differences, seed=11, rounds=200) == 0.27860696517412936


def test_the_folds_of_a_calibration():
    assert fold_numbers(f"q{n}" for n in range(16)).tolist() == [
        4,
        0,
        1,
        0,
        1,
        0,
        3,
        0,
        1,
        0,
        3,
        4,
        4,
        4,
        1,
        3,
    ]


def test_the_texts_of_isotropy(dataset):
    tests = {"sea": read_judged_set("sea", dataset, split="test")}
    texts = Texts(tests, IsotropyConfig(pair_queries=10))
    assert [name.split("\t")[1] for name in texts.queries[:5]] == [
        "q08",
        "q17",
        "q00",
        "q11",
        "q12",
    ]
    assert [name.split("\t")[1] for name in texts.passages[:5]] == [
        "p43",
        "p10",
        "p62",
        "p69",
        "p13",
    ]
    assert [passage.split("\t")[1] for _, passage in texts.pairs()] == [
        "p28",
        "p37",
        "p40",
        "p51",
        "p52",
        "p54",
        "p18",
        "p10",
        "p16",
        "p13",
    ]


def test_the_passages_that_smaller_forms_are_fitted_to(dataset, model, monkeypatch):
    monkeypatch.setattr(dense, "SAMPLE", 5)
    encoded, encode = [], dense.Search._encoded

    def record(self, texts, side, advance):
        encoded.append(list(texts))
        return encode(self, texts, side, advance)

    monkeypatch.setattr(dense.Search, "_encoded", record)
    test = read_judged_set("sea", dataset, split="test")
    config = EvaluationConfig(variants=["int8"])
    dense.Search(model, test, config, progress=Silent())
    assert encoded[1] == [
        "tide 6 moon 5 reef 27",
        "tide 5 moon 7 reef 40",
        "tide 2 moon 0 reef 44",
        "tide 6 moon 0 reef 55",
        "tide 2 moon 3 reef 58",
    ]


def test_the_selection_set(dataset):
    config = SelectionConfig(queries=3, passages=12)
    test = read_held_out(dataset, "sea", "test", config, seed=4)
    assert list(test.queries) == ["q12", "q18", "q19"]
    others = np.setdiff1d(test.corpus.ids, [p for judged in test.qrels.values() for p in judged])
    assert others.tolist() == ["p02", "p11", "p63"]


def test_a_sample_of_a_data_set(dataset, tmp_path):
    draw_sample("sea", dataset, tmp_path / "a", queries=3, passages=20, seed=4)
    qrels = beir.read_qrels(tmp_path / "a", "test")
    assert list(qrels) == ["q12", "q18", "q19"]
    ids = Corpus.open(tmp_path / "a").ids
    assert sorted(set(ids).difference(*qrels.values())) == [
        "p02",
        "p11",
        "p15",
        "p31",
        "p42",
        "p45",
        "p47",
        "p50",
        "p63",
        "p71",
        "p72",
    ]


def test_the_selection_queries_of_msmarco(tmp_path):
    queries = {f"q{n}": f"question {n}" for n in range(30)}
    train = {query: {"p": 1} for query in queries}
    beir.write_set(tmp_path / "a", corpus={"p": "x"}, queries=queries, qrels={"train": train})
    _, chosen = derived._select(tmp_path / "a", {}, Derived("", queries=4))
    assert list(chosen) == ["q18", "q26", "q3", "q4"]
