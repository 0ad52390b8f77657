import math
import random

import ir_measures
import pytest
from beir.retrieval.evaluation import EvaluateRetrieval

from ragcun_cli.core.rankings.metrics import METRICS, mean, metrics_to, score_queries


def random_judgements_and_lists(seed, *, queries=40, passages=300, depth=300):
    rng = random.Random(seed)
    ids = [f"p{number}" for number in range(passages)]
    names = [f"q{number}" for number in range(queries)]
    qrels = {
        name: {passage: rng.choice([-1, 0, 1, 1, 2, 3]) for passage in rng.sample(ids, 30)}
        for name in names
    }
    return qrels, {name: rng.sample(ids, depth) for name in names}


@pytest.mark.parametrize("depth", [300, 100, 7])
def test_averages_are_those_of_beir(depth):
    qrels, ranked = random_judgements_and_lists(depth, depth=depth)
    qrels["q0"] = {"p1": 0, "p2": 0}
    del ranked["q1"]
    scores = score_queries(qrels, ranked)
    run = {
        query: {passage: 1.0 / (1 + rank) for rank, passage in enumerate(passages)}
        for query, passages in ranked.items()
    } | {"q1": {"no such passage": 1.0}}
    found = EvaluateRetrieval.evaluate(qrels, run, [1, 3, 5, 10, 100, 1000])
    mrr = EvaluateRetrieval.evaluate_custom(qrels, run, [10], metric="mrr")
    beirs = {name.lower(): value for one in (*found, mrr) for name, value in one.items()}
    averages = {metric: mean(scores[metric].values()) for metric in METRICS}
    del averages["judged@10"]
    expected = {metric: beirs[metric] for metric in averages}
    assert averages == pytest.approx(expected, abs=1e-5)
    assert all(0 < value < 1 for value in averages.values())


@pytest.mark.parametrize("depth", [300, 7])
def test_scores_of_queries_are_those_of_ir_measures(depth):
    qrels, ranked = random_judgements_and_lists(depth, depth=depth)
    del ranked["q1"]
    scores = score_queries(qrels, ranked)
    run = {
        query: {passage: float(depth - rank) for rank, passage in enumerate(passages)}
        for query, passages in ranked.items()
    }
    names = {
        "ndcg": ir_measures.nDCG,
        "recall": ir_measures.R,
        "map": ir_measures.AP,
        "mrr": ir_measures.RR,
        "judged": ir_measures.Judged,
    }
    measures = {
        names[metric.partition("@")[0]] @ int(metric.partition("@")[2]): metric
        for metric in METRICS
    }
    seen = 0
    for found in ir_measures.iter_calc(list(measures), qrels, run):
        value = scores[measures[found.measure]][found.query_id]
        assert value == pytest.approx(found.value, abs=1e-6), found
        seen += 1
    assert seen == len(METRICS) * len(qrels)


def test_metrics_deeper_than_the_ranking_are_left_out():
    assert "recall@1000" not in metrics_to(999)
    assert metrics_to(1000) == METRICS
    scores = score_queries({"q": {"a": 1}}, {"q": ["a"]}, depth=100)
    assert tuple(scores) == metrics_to(100)


def test_judged_counts_passages_of_any_grade_among_ten():
    ranked = {"q": ["a", "x", "b", *(f"y{number}" for number in range(7)), "c"]}
    scores = score_queries({"q": {"a": 0, "b": 2, "c": 1}, "none": {"a": 1}}, ranked)
    assert scores["judged@10"] == {"q": 0.2, "none": 0.0}


def test_a_small_case_is_as_computed_by_hand():
    qrels = {"q": {"a": 2, "b": 1, "c": 1, "d": 0}}
    scores = score_queries(qrels, {"q": ["d", "b", "x", "a"]})
    gain = 1 / math.log2(3) + 2 / math.log2(5)
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert tuple(scores) == METRICS
    assert scores["ndcg@10"] == {"q": pytest.approx(gain / ideal)}
    assert scores["recall@100"] == {"q": pytest.approx(2 / 3)}
    assert scores["mrr@10"] == {"q": 0.5}
    assert scores["map@100"] == {"q": pytest.approx((1 / 2 + 2 / 4) / 3)}


def test_each_metric_stops_at_its_own_depth():
    fillers = [f"x{number}" for number in range(200)]
    qrels = {str(rank): {"a": 1} for rank in (10, 11, 100, 101)}
    ranked = {query: [*fillers[: int(query) - 1], "a", *fillers[150:]] for query in qrels}
    scores = score_queries(qrels, ranked)
    assert scores["mrr@10"] == {"10": 0.1, "11": 0.0, "100": 0.0, "101": 0.0}
    assert scores["ndcg@10"] == {
        "10": pytest.approx(1 / math.log2(11)),
        "11": 0,
        "100": 0,
        "101": 0,
    }
    assert scores["recall@100"] == {"10": 1.0, "11": 1.0, "100": 1.0, "101": 0.0}
    assert scores["map@100"] == pytest.approx({"10": 0.1, "11": 1 / 11, "100": 0.01, "101": 0.0})


def test_judged_queries_without_results_or_relevant_passages_count_zero_and_others_not_at_all():
    qrels = {"found": {"a": 1}, "empty": {"a": 1}, "missing": {"a": 1}, "irrelevant": {"a": 0}}
    scores = score_queries(qrels, {"found": ["a"], "empty": [], "irrelevant": ["a"], "new": ["a"]})
    assert scores.pop("judged@10") == {
        "found": 1.0,
        "empty": 0.0,
        "missing": 0.0,
        "irrelevant": 1.0,
    }
    for metric in scores:
        assert list(scores[metric]) == list(qrels)
        assert scores[metric] == {"found": 1.0, "empty": 0.0, "missing": 0.0, "irrelevant": 0.0}
    assert mean(scores["ndcg@10"].values()) == 0.25


def test_nothing_retrieved_at_all_scores_zero():
    assert score_queries({"q": {"a": 1}}, {})["map@100"] == {"q": 0.0}


def test_the_order_of_the_list_is_the_ranking_whatever_the_ids():
    ids = [f"{number:04}" for number in range(1000)]
    for order in (ids, ids[::-1]):
        scores = score_queries({"q": {order[98]: 1, order[99]: 1}}, {"q": order})
        assert scores["map@100"]["q"] == pytest.approx((1 / 99 + 2 / 100) / 2)


def test_negative_grades_neither_gain_nor_lose():
    graded = score_queries({"q": {"a": 1, "b": -1}}, {"q": ["b", "a"]})
    plain = score_queries({"q": {"a": 1}}, {"q": ["b", "a"]})
    assert (graded.pop("judged@10"), plain.pop("judged@10")) == ({"q": 1.0}, {"q": 0.5})
    assert graded == plain


def test_a_passage_listed_twice_is_refused():
    with pytest.raises(ValueError, match="'q' holds a passage twice"):
        score_queries({"q": {"a": 1}}, {"q": ["b", "a", "b"]})


def test_a_query_that_nobody_judged_is_refused():
    with pytest.raises(ValueError, match="'q' is in the judgements without"):
        score_queries({"q": {}}, {"q": ["b"]})


def test_the_mean_of_nothing_is_refused_and_order_does_not_move_it():
    values = [1e16, 1.0, -1e16, 0.1, 0.7]
    assert mean(values) == mean(sorted(values)) == pytest.approx(1.8 / 5)
    with pytest.raises(ValueError, match="no values"):
        mean([])
