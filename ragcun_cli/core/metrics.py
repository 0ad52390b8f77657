"""Retrieval metrics of each query, from judgements and a ranking."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pytrec_eval

METRICS = ("ndcg@10", "recall@100", "mrr@10", "map@100")

_TREC_NAMES = {"ndcg@10": "ndcg_cut_10", "recall@100": "recall_100", "map@100": "map_cut_100"}
_DEEPEST = 100


def score_queries(
    qrels: Mapping[str, Mapping[str, int]], ranked: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Metric -> query id -> value in [0, 1], over all judged queries, in the order of ``qrels``.

    trec_eval's ``ndcg_cut_10`` (linear gain), ``recall_100`` and ``map_cut_100``; ``mrr@10`` is one
    over the rank of the first relevant passage among ten, else 0. Relevant means a grade above 0.
    A judged query without results counts 0. So does one whose grades are all 0 or less, which
    trec_eval and beir keep in the average. Queries without judgements are ignored.
    Blind to scores: the order of the list is the ranking, so ties have to be broken before. A
    passage that is the query itself is not removed.

    Args:
        qrels: query id -> passage id -> grade.
        ranked: query id -> passage ids, best first; 100 of them are read.

    Raises:
        ValueError: a query of ``qrels`` has no judgements, or a list holds a passage twice.
    """
    for query, judged in qrels.items():
        if not judged:
            raise ValueError(f"query {query!r} is in the judgements without a judged passage")
    lists = {query: ranked.get(query, ()) for query in qrels}
    for query, passages in lists.items():
        if len(set(passages)) < len(passages):
            raise ValueError(f"the ranking of query {query!r} holds a passage twice")
    trec = _trec_scores(qrels, lists)
    scores = {
        metric: {query: trec[query][name] if query in trec else 0.0 for query in qrels}
        for metric, name in _TREC_NAMES.items()
    }
    scores["mrr@10"] = {query: _reciprocal_rank(qrels[query], lists[query]) for query in qrels}
    return {metric: scores[metric] for metric in METRICS}


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean, the same in any order of the values.

    Raises:
        ValueError: there are no values.
    """
    values = list(values)
    if not values:
        raise ValueError("the mean of no values is undefined")
    return math.fsum(values) / len(values)


def _trec_scores(
    qrels: Mapping[str, Mapping[str, int]], lists: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    # trec_eval keeps scores as float32 and breaks ties by id: whole numbers stand clear of both.
    runs = {
        query: {passage: float(-rank) for rank, passage in enumerate(passages[:_DEEPEST])}
        for query, passages in lists.items()
        if passages
    }
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query: dict(judged) for query, judged in qrels.items()},
        {name.replace("_10", ".10") for name in _TREC_NAMES.values()},
    )
    scores: dict[str, dict[str, float]] = evaluator.evaluate(runs)
    return scores


def _reciprocal_rank(judged: Mapping[str, int], passages: Sequence[str]) -> float:
    ranks = (rank for rank, passage in enumerate(passages[:10], 1) if judged.get(passage, 0) > 0)
    return next((1.0 / rank for rank in ranks), 0.0)
