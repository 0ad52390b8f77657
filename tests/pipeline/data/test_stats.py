import json
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ragcun_cli.core.jaccard import alike
from ragcun_cli.pipeline.data.checks import stats
from ragcun_cli.pipeline.data.checks.overlap import NearPair, overlap
from ragcun_cli.pipeline.data.checks.stats import CountPerQuery, Lengths, SplitStatistics, describe
from ragcun_cli.pipeline.data.sets import beir, corpus, storing
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import DataError

PASSAGES = {
    "p1": "The tide turns.",
    "p2": "the  TIDE turns",
    "p3": "the tide, turns!",
    "p4": "salt",
    "p5": "",
    "p6": "",
    "p7": "???",
    "p8": "!",
    "p9": "Salt?",
}
QUERIES = {"q1": "When does it turn?", "q2": "when does it turn", "q3": "salt", "q4": "why"}
TRAIN = {"q1": {"p1": 1, "p2": 2, "p4": 0}, "q3": {"p4": -1}}
TEST = {"q2": {"p9": 1}, "q4": {"p3": 1, "gone": 1, "lost": 0}}


class Watched(Silent):
    """Remembers how far each bar came."""

    def __init__(self):
        self.bars = []

    @contextmanager
    def bar(self, label, *, total, unit):
        steps = []
        yield steps.append
        self.bars.append((label, total, sum(steps)))


def put(folder, corpus, queries, **qrels):
    folder.mkdir(parents=True)
    beir.write_set(folder, corpus=corpus, queries=queries, qrels=qrels)
    return folder


@pytest.fixture
def sea(tmp_path):
    return put(tmp_path / "sea", PASSAGES, QUERIES, train=TRAIN, test=TEST)


def test_lengths_are_those_counted_by_hand(sea):
    found = describe(sea, progress=Silent())
    assert (found.passages.count, found.queries.count) == (9, 4)
    # words: 3 3 3 1 0 0 1 1 1; characters: 15 15 16 4 0 0 3 1 5
    # the 95th percentile lies 0.95 * 8 = 7.6 steps up: 15 + 0.6 * (16 - 15)
    assert found.passages.words == Lengths(13 / 9, 1, 3, 3)
    assert found.passages.characters == Lengths(59 / 9, 4, pytest.approx(15.6), 16)
    # words: 4 4 1 1; characters: 18 17 4 3
    assert found.queries.words == Lengths(2.5, 2.5, 4, 4)
    assert found.queries.characters == Lengths(10.5, 10.5, pytest.approx(17.85), 18)


def test_texts_that_stand_twice_are_counted_and_those_without_words_are_not(sea):
    found = describe(sea, progress=Silent())
    assert found.passages.empty == 2
    assert found.passages.empty == corpus.read_record(sea).empty
    assert (found.passages.duplicates, found.passages.duplicate_groups) == (3, 2)
    assert (found.queries.duplicates, found.queries.duplicate_groups) == (1, 1)
    assert found.queries.empty == 0


def test_judgements_are_those_counted_by_hand(sea):
    found = describe(sea, progress=Silent())
    assert list(found.splits) == ["train", "test"]
    assert found.splits["train"] == SplitStatistics(
        queries=2,
        pairs=4,
        relevant_pairs=2,
        pairs_per_query=CountPerQuery(2, 1, 3),
        relevant_per_query=CountPerQuery(1, 0, 2),
        queries_without_relevant=1,
        grades={"-1": 1, "0": 1, "1": 1, "2": 1},
        unknown_judged=0,
    )
    assert list(found.splits["train"].grades) == ["-1", "0", "1", "2"]
    assert found.splits["test"] == SplitStatistics(
        queries=2,
        pairs=4,
        relevant_pairs=3,
        pairs_per_query=CountPerQuery(2, 1, 3),
        relevant_per_query=CountPerQuery(1.5, 1, 2),
        queries_without_relevant=0,
        grades={"0": 1, "1": 3},
        unknown_judged=2,
    )


def test_statistics_are_the_same_once_they_went_through_json(sea):
    found = asdict(describe(sea, progress=Silent()))
    assert json.loads(json.dumps(found)) == found


def test_a_title_counts_as_the_text_does(tmp_path):
    source, draft = tmp_path / "beir", tmp_path / "stored"
    (source / "qrels").mkdir(parents=True)
    draft.mkdir()
    rows = [
        {"_id": "a", "title": "The tide", "text": "turns"},
        {"_id": "b", "title": "", "text": "the tide turns"},
        {"_id": "c", "title": "Salt", "text": ""},
    ]
    (source / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source / "queries.jsonl").write_text('{"_id": "q", "text": "salt"}\n')
    (source / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
    storing.store(source, draft)
    found = describe(draft, progress=Silent()).passages
    assert (found.empty, found.duplicates) == (0, 1)
    assert (found.words.max, found.characters.max) == (3, len("The tide turns"))


def test_a_folder_without_passages_is_refused(tmp_path):
    with pytest.raises(DataError):
        describe(tmp_path, progress=Silent())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(alphabet="aB ?.ß", max_size=5), min_size=1, max_size=40))
def test_duplicates_are_those_found_by_comparing_each_with_all_before(texts, tmp_path_factory):
    named = {f"p{at:02}": text for at, text in enumerate(texts)}
    judged = {"q": {"p00": 1}}
    folder = put(tmp_path_factory.mktemp("set") / "x", named, {"q": "a"}, test=judged)
    words = [beir.words(text) for text in texts]
    twice = [at for at in range(len(words)) if words[at] and words[at] in words[:at]]
    found = describe(folder, progress=Silent()).passages
    assert found.duplicates == len(twice)
    assert found.duplicate_groups == len({words[at] for at in twice})
    assert found.empty == sum(not text.strip() for text in texts)


@pytest.mark.parametrize("rows", [1, 2, 4, 9])
def test_the_size_of_a_block_changes_nothing(rows, sea, monkeypatch):
    whole = describe(sea, progress=Silent()), overlap(sea, "test", sea, progress=Silent())
    monkeypatch.setattr(stats, "BATCH_ROWS", rows)
    monkeypatch.setattr(corpus, "BATCH_ROWS", 3)
    watched = Watched()
    assert describe(sea, progress=watched) == whole[0]
    assert overlap(sea, "test", sea, progress=watched) == whole[1]
    assert [(total, came) for _, total, came in watched.bars] == [(13, 13), (2, 2), (9, 9), (2, 2)]


@pytest.fixture
def tested(tmp_path):
    passages = {"a": "Salt water", "b": "tide", "c": "salt, WATER", "d": "?", "e": "wind"}
    queries = {
        "t1": "How deep is the sea?",
        "t2": "how deep is THE sea today",
        "t3": "is the sea how deep",
        "t4": "who",
        "t5": "???",
        "t6": "not judged here",
    }
    judged = {"t1": {"a": 1, "d": 1}, "t2": {"b": 1, "a": 2}, "t3": {"c": 0}, "t4": {"gone": 1}}
    return put(tmp_path / "test", passages, queries, test=judged | {"t5": {"e": 1}})


@pytest.fixture
def trained(tmp_path):
    passages = {"x": "salt water!", "y": "tide", "z": "wind", "w": "!!"}
    queries = {
        "s2": "how deep is the sea",
        "s1": "How deep is the sea!",
        "s3": "who",
        "s4": "not judged here",
        "s5": "?",
        "s6": "sea",
    }
    judged = {"s2": {"x": 1}, "s1": {"w": 1, "z": 0}, "s3": {"y": 0}, "s5": {"gone": 1}}
    return put(tmp_path / "train", passages, queries, train=judged, test={"s6": {"z": 1}})


def test_an_overlap_is_the_one_counted_by_hand(tested, trained):
    found = overlap(tested, "test", trained, progress=Silent())
    assert (found.split, found.near) == ("test", 0.8)
    assert (found.train_queries, found.train_positives) == (3, 2)  # s2, s1, s5 and x, w
    assert (found.queries, found.same_queries, found.near_queries) == (5, 1, 3)
    assert (found.passages, found.same_passages) == (5, 2)  # a, c
    assert (found.relevant_passages, found.same_relevant_passages) == (4, 1)  # a, b, d, e
    deep = ("s1", "How deep is the sea!")
    assert found.examples == (
        NearPair("t1", "How deep is the sea?", *deep, 1),
        NearPair("t3", "is the sea how deep", *deep, 1),
        NearPair("t2", "how deep is THE sea today", *deep, pytest.approx(5 / 6)),
    )
    assert json.loads(json.dumps(asdict(found)))["near_queries"] == 3


def test_the_threshold_decides_what_is_near(tested, trained):
    counts = [
        overlap(tested, "test", trained, progress=Silent(), near=near).near_queries
        for near in (1.0, 5 / 6, np.nextafter(5 / 6, 1))
    ]
    assert counts == [2, 3, 2]


def test_examples_are_the_five_most_similar_by_id(tmp_path):
    words = [f"w{at}" for at in range(9)]
    asked = {f"t{size}": " ".join(words[:size]) for size in range(1, 9)}
    train = put(tmp_path / "train", {"p": "x"}, {"s": " ".join(words)}, train={"s": {"p": 1}})
    judged = {query: {"p": 1} for query in asked}
    test = put(
        tmp_path / "test", {"p": "x"}, asked | {"t0": asked["t8"]}, test=judged | {"t0": {"p": 1}}
    )
    found = overlap(test, "test", train, progress=Silent(), near=0.3)
    assert found.near_queries == 7
    assert [pair.test_id for pair in found.examples] == ["t0", "t8", "t7", "t6", "t5"]
    assert [pair.similarity for pair in found.examples] == [8 / 9, 8 / 9, 7 / 9, 6 / 9, 5 / 9]


def test_another_split_of_the_training_set_can_be_compared_and_the_training_data_cannot(sea):
    found = overlap(sea, "test", sea, progress=Silent())
    assert (found.queries, found.same_queries, found.train_queries) == (2, 1, 1)
    assert (found.same_passages, found.relevant_passages, found.same_relevant_passages) == (3, 2, 1)
    with pytest.raises(ValueError, match="training data itself"):
        overlap(sea / ".." / "sea", "train", sea, progress=Silent())


def test_training_data_without_a_relevant_passage_overlap_with_nothing(tested, tmp_path):
    empty = put(tmp_path / "none", {"p": "tide"}, {"s": "who"}, train={"s": {"p": 0}})
    found = overlap(tested, "test", empty, progress=Silent())
    assert (found.train_queries, found.train_positives, found.examples) == (0, 0, ())
    assert (found.same_queries, found.near_queries, found.same_passages) == (0, 0, 0)


def test_a_set_without_training_data_is_refused(sea, tested):
    with pytest.raises(DataError, match=r"train\.tsv"):
        overlap(sea, "test", tested, progress=Silent())


@pytest.mark.parametrize("near", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_similarity_is_refused(near, tested, trained):
    with pytest.raises(ValueError, match="near"):
        overlap(tested, "test", trained, progress=Silent(), near=near)


def brute_force(texts, others, near):
    """All pairs, one after the other."""
    for text in texts:
        mine, found = set(text.split()), {}
        for row, other in enumerate(others):
            either = mine | set(other.split())
            if mine and other.split():
                similarity = len(mine & set(other.split())) / len(either)
                if similarity >= near:
                    found[row] = similarity
        yield found


def as_dictionaries(found):
    return [dict(zip(f.rows.tolist(), f.similarities.tolist(), strict=True)) for f in found]


TEXTS = st.lists(
    st.one_of(st.just("???"), st.lists(st.sampled_from("abcdefgh"), max_size=12).map(" ".join)).map(
        beir.words
    ),
    max_size=12,
)
THRESHOLDS = st.sampled_from([0.1, 0.3, 0.5, 0.55, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.9, 1.0])


@settings(max_examples=400)
@given(TEXTS, TEXTS, st.one_of(THRESHOLDS, st.floats(0.001, 1)))
@example(["a a b", "", "???"], ["b a", "", "???"], 1.0)
def test_the_prefix_filter_finds_what_comparing_all_pairs_finds(texts, others, near):
    found = as_dictionaries(alike(texts, others, near=near))
    assert found == list(brute_force(texts, others, near))


@pytest.mark.parametrize("near", [0.4, 0.55, 0.8, 0.95, 1.0])
def test_the_prefix_filter_finds_all_among_long_and_short_texts(near):
    """Words as frequent as in a language, and copies of which a few words were changed."""
    draw = random.Random(7)
    vocabulary = [f"w{at}" for at in range(300)]
    weights = [1 / (at + 1) for at in range(300)]
    others = [
        " ".join(draw.choices(vocabulary, weights, k=draw.choice([1, 3, 6, 40, 100])))
        for _ in range(300)
    ]
    texts = [
        " ".join(word for word in draw.choice(others).split() if draw.random() > 0.1)
        for _ in range(100)
    ]
    expected = list(brute_force(texts, others, near))
    assert 0 < sum(map(len, expected)) < len(texts) * len(others)
    assert as_dictionaries(alike(texts, others, near=near)) == expected


def test_similarities_at_the_threshold_are_found_whatever_the_rounding():
    """k of n words in common, at the threshold k / n exactly: 0.55 * 100 is above 55 in floats."""
    for size in range(1, 121):
        words = [f"w{at}" for at in range(size)]
        whole = " ".join(words)
        for shared in {1, size // 3, size // 2, size * 11 // 20, size - 1, size} - {0}:
            part = " ".join(words[-shared:])
            for texts in ([part], [whole]), ([whole], [part]):
                (found,) = alike(*texts, near=shared / size)
                assert found.rows.tolist() == [0], (size, shared)


def test_keys_are_equal_where_words_are():
    texts = ["A b", "a, B", "b a", "", "?!", "ß", "SS", "a b c"]
    keys = stats.word_keys(texts)
    assert keys.dtype == np.uint64
    assert keys[0] == keys[1]
    assert keys[5] == keys[6]
    assert keys[3] == keys[4] == stats.WORDLESS
    assert sorted(Counter(keys.tolist()).values()) == [1, 1, 2, 2, 2]
