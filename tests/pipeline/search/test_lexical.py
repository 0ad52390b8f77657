import math
import random
import re
from collections import Counter
from itertools import pairwise

import pytest

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.spec.mining_config import MiningConfig

WORDS = [
    "tide",
    "moon",
    "ship",
    "storm",
    "harbour",
    "anchor",
    "sail",
    "rope",
    "wind",
    "reef",
    "pilot",
    "chart",
    "buoy",
    "crew",
    "deck",
]
PLAIN = MiningConfig(stemmer="none", stopwords="none")


def tokens(text):
    return re.findall(r"\b\w\w+\b", text.lower())


def brute_force(texts, query, *, k1, b):
    """Lucene's BM25 in double precision: passage id -> score above zero."""
    split = {key: tokens(text) for key, text in texts.items()}
    mean = sum(map(len, split.values())) / len(split)
    having = Counter(word for words in split.values() for word in set(words))
    scores = {}
    for key, words in split.items():
        counts, score = Counter(words), 0.0
        for word in tokens(query):
            n, tf = having[word], counts[word]
            idf = math.log(1 + (len(split) - n + 0.5) / (n + 0.5))
            score += idf * tf / (tf + k1 * (1 - b + b * len(words) / mean))
        if score > 0:
            scores[key] = score
    return scores


def search(texts, queries, *, depth=100, config=PLAIN):
    corpus = Corpus.of(texts)
    found = LexicalIndex(corpus, config).search_batches(queries, depth=depth)
    return {
        query: list(zip(corpus.ids_of(rows), scores.tolist(), strict=True))
        for query, rows, scores in found
    }


@pytest.fixture(scope="module")
def sea():
    draw = random.Random(7)
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    texts = {
        f"p{number:03}": " ".join(draw.choices(WORDS, weights, k=draw.randint(3, 25))).capitalize()
        for number in range(150)
    }
    texts |= {f"twin{number}": texts["p003"] for number in range(4)}
    queries = {f"q{n}": " ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for n in range(25)}
    return texts, queries


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 0.75), (1.2, 0.0), (0.5, 1.0)])
def test_scores_and_order_are_those_of_bm25_counted_by_hand(sea, k1, b):
    texts, queries = sea
    config = PLAIN.model_copy(update={"k1": k1, "b": b})
    found = search(texts, queries, depth=1000, config=config)
    for name, query in queries.items():
        expected = brute_force(texts, query, k1=k1, b=b)
        assert dict(found[name]) == pytest.approx(expected, abs=1e-5)
        values = [expected[key] for key, _ in found[name]]
        assert all(later <= earlier + 1e-5 for earlier, later in pairwise(values))


@pytest.mark.parametrize("depth", [1, 3, 10, 50])
def test_a_search_cut_short_is_the_start_of_the_whole_one(sea, depth):
    texts, queries = sea
    whole = search(texts, queries, depth=1000)
    assert search(texts, queries, depth=depth) == {
        name: hits[:depth] for name, hits in whole.items()
    }


def test_equal_scores_are_ordered_by_passage_id_also_at_the_cut():
    texts = dict.fromkeys(["d", "a", "c", "b"], "the tide") | {"e": "tide tide", "f": "a calm"}
    expected = ["e", "a", "b", "c", "d"]
    for depth in range(1, 6):
        hits = search(texts, {"q": "tide"}, depth=depth)["q"]
        assert [key for key, _ in hits] == expected[:depth]


def test_a_passage_that_shares_no_word_is_no_hit():
    texts = {"a": "high tide", "b": "low water", "c": "spring tide"}
    hits = search(texts, {"q": "tide", "none": "granite", "blank": "?", "part": "granite low"})
    assert [key for key, _ in hits["q"]] == ["a", "c"]
    assert hits["none"] == []
    assert hits["blank"] == []
    assert [key for key, _ in hits["part"]] == ["b"]


def test_every_query_is_answered_in_its_order_when_there_are_more_than_one_block(sea):
    texts, queries = sea
    many = {f"{name}-{copy}": text for copy in range(30) for name, text in queries.items()}
    found = search(texts, many, depth=5)
    assert list(found) == list(many)
    assert found["q3-29"] == search(texts, {"q": queries["q3"]}, depth=5)["q"]


def test_stemming_and_stop_words_are_what_the_profile_says():
    texts = {"a": "the ships are sailing", "b": "a lighthouse on the rocks"}
    asked = {"stem": "sailed ship", "stop": "the"}
    plain = search(texts, asked)
    assert plain["stem"] == []
    assert [key for key, _ in plain["stop"]] == ["a", "b"]
    english = search(texts, asked, config=MiningConfig())
    assert [key for key, _ in english["stem"]] == ["a"]
    assert english["stop"] == []


def test_a_passage_without_words_is_never_found():
    hits = search({"a": "", "b": "!?", "c": "tide"}, {"q": "tide"})["q"]
    assert [key for key, _ in hits] == ["c"]
