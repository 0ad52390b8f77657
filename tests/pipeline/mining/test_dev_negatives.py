"""Negatives of the dev split, the rules for input out of the ordinary, and what is counted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from drafts import contents
from hypothesis import given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.beir import words
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.mining import mine as mining_stage
from ragcun_cli.pipeline.mining.mine import mine
from ragcun_cli.pipeline.mining.rows import look_up, read_rows
from ragcun_cli.pipeline.mining.table import lines
from ragcun_cli.pipeline.search.lexical import search
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import DataConfig

ROWS = {"train": "negatives.jsonl", "dev": "dev_negatives.jsonl"}


def write_sea(folder, *, splits=("train", "dev")):
    """80 passages and 30 queries of each split; some of their positives have near duplicates."""
    draw = random.Random(4)
    vocabulary = ["".join(draw.choices("aeioumnrst", k=4)) for _ in range(40)]
    corpus = {f"p{n:02}": " ".join(draw.choices(vocabulary, k=11)) for n in range(80)}
    for n in range(0, 60, 3):  # ten words of eleven the same
        corpus[f"near{n:02}"] = f"{corpus[f'p{n:02}']} again"
    queries = {f"q{n:02}": " ".join(corpus[f"p{n:02}"].split()[2:6]) for n in range(60)}
    ranges = {"train": range(30), "dev": range(30, 60)}
    qrels = {split: {f"q{n:02}": {f"p{n:02}": 1} for n in ranges[split]} for split in splits}
    beir.write_set(folder, corpus=corpus, queries=queries, qrels=qrels)
    return folder


@pytest.fixture(scope="module")
def sea(tmp_path_factory):
    return write_sea(tmp_path_factory.mktemp("dev") / "sea")


def mined(dataset, root, *, seed=1, max_train_queries=None, **mining):
    draft = root / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    summary = mine(
        dataset,
        draft,
        data=DataConfig(train="sea", max_train_queries=max_train_queries),
        mining=MiningConfig(**mining),
        seed=seed,
        workspace=Workspace(root, root),
        progress=Silent(),
    )
    return {split: list(read_rows(draft / name)) for split, name in ROWS.items()}, summary


def test_dev_gets_the_rows_that_its_queries_would_get_in_training(sea, tmp_path):
    rows, summary = mined(sea, tmp_path)
    swapped = tmp_path / "swapped"
    shutil.copytree(sea, swapped)
    (swapped / "qrels/train.tsv").rename(swapped / "qrels/kept.tsv")
    (swapped / "qrels/dev.tsv").rename(swapped / "qrels/train.tsv")
    (swapped / "qrels/kept.tsv").rename(swapped / "qrels/dev.tsv")
    other, of_other = mined(swapped, tmp_path / "other")
    assert other == {"train": rows["dev"], "dev": rows["train"]}
    assert len(rows["dev"]) == 30
    dev = of_other.pop("dev")
    assert of_other == summary.pop("dev")
    assert dev == summary


def test_a_sample_of_the_training_queries_leaves_dev_whole(sea, tmp_path):
    rows, summary = mined(sea, tmp_path, max_train_queries=5)
    assert (len(rows["train"]), len(rows["dev"])) == (5, 30)
    assert (summary["queries"], summary["dev"]["queries"]) == (5, 30)


def test_a_set_without_dev_has_none_and_says_so(tmp_path):
    rows, summary = mined(write_sea(tmp_path / "sea", splits=("train",)), tmp_path)
    assert rows["dev"] == []
    assert summary["dev"] is None
    assert lines(summary)[-1] == ("dev", "none: the set has no dev split")


def test_a_dev_split_without_positives_has_no_rows_and_is_counted(sea, tmp_path):
    dataset = tmp_path / "sea"
    shutil.copytree(sea, dataset)
    (dataset / "qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\nq30\tp30\t0\n")
    rows, summary = mined(dataset, tmp_path)
    assert rows["dev"] == []
    assert (summary["dev"]["queries"], summary["dev"]["queries_without_positive"]) == (0, 1)
    assert ("dev: queries without positive", "1") in lines(summary)
    assert summary["dev"]["score_histogram"] is None


def test_a_query_of_dev_can_be_looked_at(sea, tmp_path):
    rows, _ = mined(sea, tmp_path)
    query, positive, *negatives = look_up(tmp_path / "draft", sea, "q44")
    assert (query["id"], positive["id"]) == ("q44", "p44")
    assert [p["id"] for p in negatives] == [*rows["dev"][14].hard, *rows["dev"][14].random]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_neither_threads_nor_batches_move_a_byte(sea, tmp_path, monkeypatch, threads, batch):
    mined(sea, tmp_path)
    whole = contents(tmp_path / "draft")
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", batch)
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    mined(sea, tmp_path)
    assert contents(tmp_path / "draft") == whole
    assert whole["dev_negatives.jsonl"].count(b"\n") == 30


KILLED = Path(__file__).with_name("killed_mining.py")


def test_a_mining_killed_in_training_and_in_dev_goes_on_to_the_same_bytes(sea, tmp_path):
    mined(sea, tmp_path)
    whole = contents(tmp_path / "draft")
    root = tmp_path / "killed"
    (root / "draft").mkdir(parents=True)
    found = []
    for writes in (2, 5, 1, 0):
        command = [sys.executable, KILLED, sea, root, "7", str(writes)]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == (-signal.SIGKILL if writes else 0), done.stderr
        kept = contents(root / "draft")
        found.append([kept.get(name, b"").count(b"\n") for name in ROWS.values()])
    assert found == [[14, 0], [30, 14], [30, 21], [30, 30]]
    assert contents(root / "draft") == whole


@settings(max_examples=30)
@given(
    grades=st.lists(
        st.dictionaries(st.integers(0, 29), st.integers(-1, 3), min_size=1, max_size=8),
        min_size=2,
        max_size=8,
    ),
    seed=st.integers(0, 99),
    count=st.integers(1, 5),
    hard_share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_shares_are_as_asked_to_the_last_query_and_no_positive_is_a_negative(
    tmp_path_factory, grades, seed, count, hard_share
):
    """Hard ones are count * share, or one more by a draw of seed and query where that is odd."""
    root = tmp_path_factory.mktemp("any")
    draw = random.Random(seed)
    terms = ["tide", "moon", "ship", "storm", "reef", "sail"]
    corpus = {f"p{n:02}": f"tide {' '.join(draw.choices(terms, k=2))} {n % 25}" for n in range(40)}
    half = len(grades) // 2
    judged = [{f"p{p:02}": grade for p, grade in row.items()} for row in grades]
    qrels = {
        "train": {f"t{n}": row for n, row in enumerate(judged[:half])} | {"t": {"p00": 1}},
        "dev": {f"d{n}": row for n, row in enumerate(judged[half:])} | {"d": {"p01": 1}},
    }
    queries = {query: "tide" for split in qrels.values() for query in split}
    beir.write_set(root / "sea", corpus=corpus, queries=queries, qrels=qrels)
    rows, summary = mined(
        root / "sea", root, seed=seed, negatives_per_query=count, hard_share=hard_share
    )
    for split, of_split in (("train", summary), ("dev", summary["dev"])):
        relevant = {q: {p for p, g in row.items() if g > 0} for q, row in qrels[split].items()}
        assert [row.query for row in rows[split]] == sorted(q for q in relevant if relevant[q])
        for row in rows[split]:
            name = f"{seed}:{row.query}".encode()
            generator = np.random.Generator(
                np.random.PCG64(int.from_bytes(sha256(name).digest(), "big"))
            )
            expected = int(count * hard_share) + (generator.random() < count * hard_share % 1)
            assert (len(row.hard), len(row.random)) == (expected, count - expected)
            negatives = {*row.hard, *row.random}
            assert len(negatives) == count
            twins = {words(corpus[passage]) for passage in relevant[row.query]}
            assert not {words(corpus[passage]) for passage in negatives} & twins
        assert of_split["hard_negatives"] == sum(len(row.hard) for row in rows[split])
        assert of_split["random_negatives"] == sum(len(row.random) for row in rows[split])


def test_half_of_the_queries_get_the_odd_negative_from_the_hits(sea, tmp_path):
    rows, _ = mined(sea, tmp_path, negatives_per_query=3)
    hard = [len(row.hard) for split in ROWS for row in rows[split]]
    assert set(hard) == {1, 2}
    assert 20 <= hard.count(2) <= 40  # of 60


# Guards that are off


def test_what_a_guard_would_leave_out_is_what_it_leaves_out(sea, tmp_path):
    _, off = mined(sea, tmp_path)
    _, ratio = mined(sea, tmp_path, max_score_ratio=0.95)
    _, near = mined(sea, tmp_path, near_duplicate=0.9)
    for split in (lambda summary: summary, lambda summary: summary["dev"]):
        would, dropped = split(off)["would_drop"], split(ratio)["dropped"]["score_ratio"]
        assert would["score_ratio"] == {"threshold": 0.95, "hits": dropped, "queries": 30}
        assert dropped > 0
        dropped = split(near)["dropped"]["near_duplicate"]
        assert would["near_duplicate"] == {"threshold": 0.9, "hits": dropped, "queries": 30}
        assert dropped > 0
        assert would["rescore"] is None
        assert "score_ratio" not in split(ratio)["would_drop"]
        assert "near_duplicate" not in split(near)["would_drop"]
        assert split(off)["dropped"].keys() == {"relevant", "same_text"}


def test_near_duplicates_are_counted_on_a_sample_of_fixed_queries(sea, tmp_path, monkeypatch):
    _, whole = mined(sea, tmp_path)
    monkeypatch.setattr(mining_stage, "QUERIES_COUNTED", 10)
    _, some = mined(sea, tmp_path)
    found = some["would_drop"]["near_duplicate"]
    assert found["queries"] == 10
    assert 0 < found["hits"] < whole["would_drop"]["near_duplicate"]["hits"]
    details = (tmp_path / "draft/details.jsonl").read_text().splitlines()
    facts = [json.loads(line) for line in details]
    counted = {fact["query"] for fact in facts if "near_duplicate" in fact["would_drop"]}
    by_digest = sorted(
        (f"q{n:02}" for n in range(30)),
        key=lambda query: sha256(f"1:near_duplicate:{query}".encode()).hexdigest(),
    )
    assert counted == set(by_digest[:10])
    said = dict(lines(some))
    assert said["near duplicate 0.9 (off)"].endswith("would go, in a sample of 10 queries")
    assert said["score ratio 0.95 (off)"].endswith("would go")
    assert said["rescore (off)"] == "not counted: no model is named"


# Input out of the ordinary


def sea_of(tmp_path, corpus, queries, train):
    beir.write_set(tmp_path / "sea", corpus=corpus, queries=queries, qrels={"train": train})
    return tmp_path / "sea"


TIDES = {f"p{n}": f"tide {n}" for n in range(9)}


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_query_is_refused_by_name(tmp_path, text):
    dataset = sea_of(tmp_path, TIDES, {"q": text}, {"q": {"p1": 1}})
    with pytest.raises(DataError, match="query 'q' has no text"):
        mined(dataset, tmp_path)


@pytest.mark.parametrize("text", ["?!", "xylophone", "the of"])
def test_a_query_of_unknown_terms_gets_random_passages_alone_and_is_counted(tmp_path, text):
    dataset = sea_of(tmp_path, TIDES, {"q": text, "r": "tide"}, {"q": {"p1": 1}, "r": {"p2": 1}})
    rows, summary = mined(dataset, tmp_path, negatives_per_query=2)
    assert [(len(row.hard), len(row.random)) for row in rows["train"]] == [(0, 2), (1, 1)]
    assert summary["queries_without_hits"] == summary["queries_short_of_hard_negatives"] == 1
    assert ("queries without hits", "1") in lines(summary)


def test_of_a_corpus_smaller_than_depth_all_passages_are_looked_at(tmp_path):
    dataset = sea_of(tmp_path, TIDES, {"q": "tide"}, {"q": {"p1": 1}})
    rows, summary = mined(dataset, tmp_path, depth=100, negatives_per_query=8, hard_share=1.0)
    assert set(rows["train"][0].hard) == TIDES.keys() - {"p1"}
    assert summary["candidates"] == 8
    assert dict(lines(summary))["depth"].startswith("100: more than there are passages")


def test_a_corpus_of_identical_passages_has_no_negative_and_is_refused(tmp_path):
    corpus = {f"p{n}": "the same tide" for n in range(9)}
    dataset = sea_of(tmp_path, corpus, {"q": "tide"}, {"q": {"p1": 1}})
    with pytest.raises(DataError, match="needs 2 random negatives, but the pool of 9") as error:
        mined(dataset, tmp_path)
    assert "a corpus with more passages" in error.value.hint


def test_identical_passages_beside_the_positive_stand_in_order_of_their_ids(tmp_path):
    corpus = {f"p{n}": "the same tide" for n in range(9)} | {"x": "tide of the moon"}
    dataset = sea_of(tmp_path, corpus, {"q": "tide"}, {"q": {"x": 1}})
    rows, _ = mined(dataset, tmp_path, depth=3, negatives_per_query=3, hard_share=1.0)
    assert set(rows["train"][0].hard) == {"p0", "p1", "p2"}


def test_judgements_without_positives_are_refused_before_anything_is_searched(tmp_path):
    dataset = sea_of(tmp_path, TIDES, {"q": "tide"}, {"q": {"p1": 0}})
    with pytest.raises(DataError, match="no training query has a relevant passage") as error:
        mined(dataset, tmp_path)
    assert error.value.hint == "ragcun data stats sea"
    assert not (tmp_path / "cache").exists()
    mined(sea_of(tmp_path / "good", TIDES, {"q": "tide"}, {"q": {"p1": 1}}), tmp_path)
    assert (tmp_path / "cache").exists()


# For figures


def test_the_histogram_counts_every_score_once(sea, tmp_path):
    rows, summary = mined(sea, tmp_path)
    found = summary["score_histogram"]
    facts = [json.loads(line) for line in (tmp_path / "draft/details.jsonl").open()]
    scores = {
        "positive": [fact["positive"] for fact in facts],
        "hard": [score for fact in facts for score in fact["hard"]],
        "random": [score for fact in facts for score in fact["random"]],
    }
    everything = [score for values in scores.values() for score in values]
    edges = found.pop("edges")
    assert edges == pytest.approx(np.linspace(min(everything), max(everything), 41), abs=1e-5)
    for kind, values in scores.items():
        assert sum(found[kind]) == len(values)
        above = sum(score >= (min(everything) + max(everything)) / 2 for score in values)
        assert sum(found[kind][20:]) == pytest.approx(above, abs=1)
    assert sum(found["positive"]) == len(rows["train"])


def test_positives_within_a_rank_are_counted_up_to_the_depth(sea, tmp_path):
    _, summary = mined(sea, tmp_path, depth=40)
    facts = [json.loads(line) for line in (tmp_path / "draft/details.jsonl").open()]
    ranks = [fact["rank"] for fact in facts if fact["rank"] is not None]
    assert ranks
    assert list(summary["positive_within"]) == ["1", "2", "3", "5", "10", "20", "30", "40"]
    for rank, count in summary["positive_within"].items():
        assert count == sum(found <= int(rank) for found in ranks)
    assert sum(summary["rank_of_positive"].values()) == 30
