"""Retrieval metrics of each query, from judgements and a ranking."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pytrec_eval

METRICS = (
    *("ndcg@1", "ndcg@3", "ndcg@5", "ndcg@10", "ndcg@100"),
    *("recall@10", "recall@100", "recall@1000"),
    *("mrr@10", "map@100", "map@1000", "judged@10"),
)
"""All of them, in the order they are shown in."""

_TREC_NAMES = {"ndcg": "ndcg_cut", "recall": "recall", "map": "map_cut"}


def metrics_to(depth: int) -> tuple[str, ...]:
    """Those that rankings of so many passages are deep enough for."""
    return tuple(metric for metric in METRICS if _cutoff(metric) <= depth)


def score_queries(
    qrels: Mapping[str, Mapping[str, int]],
    ranked: Mapping[str, Sequence[str]],
    *,
    depth: int = 1000,
) -> dict[str, dict[str, float]]:
    """Metric -> query id -> value in [0, 1], over all judged queries, in the order of ``qrels``.

    trec_eval's ``ndcg_cut`` (linear gain), ``recall`` and ``map_cut``; ``mrr@10`` is one over the
    rank of the first relevant passage among ten, else 0; ``judged@10`` is the share
    of the first ten, or of all where they are fewer, that has a judgement of any grade, as in
    ir_measures. Relevant means a grade
    above 0. A judged query without results counts 0. So does one whose grades are all 0 or less,
    which trec_eval and beir keep in the average. Queries without judgements are ignored.
    Blind to scores: the order of the list is the ranking, so ties have to be broken before. A
    passage that is the query itself is not removed.

    Args:
        qrels: query id -> passage id -> grade.
        ranked: query id -> passage ids, best first.
        depth: how many passages were looked for; metrics of deeper rankings are left out.

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
    metrics = metrics_to(depth)
    scores = _trec_scores(qrels, lists, [m for m in metrics if _kind(m) in _TREC_NAMES])
    if "mrr@10" in metrics:
        scores["mrr@10"] = {q: _reciprocal_rank(qrels[q], lists[q]) for q in qrels}
        scores["judged@10"] = {q: _judged_share(qrels[q], lists[q]) for q in qrels}
    return {metric: scores[metric] for metric in metrics}


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean, the same in any order of the values.

    Raises:
        ValueError: there are no values.
    """
    values = list(values)
    if not values:
        raise ValueError("the mean of no values is undefined")
    return math.fsum(values) / len(values)


def _kind(metric: str) -> str:
    return metric.partition("@")[0]


def _cutoff(metric: str) -> int:
    return int(metric.partition("@")[2])


def _trec_scores(
    qrels: Mapping[str, Mapping[str, int]],
    lists: Mapping[str, Sequence[str]],
    metrics: Sequence[str],
) -> dict[str, dict[str, float]]:
    deepest = max(map(_cutoff, metrics))
    # trec_eval keeps scores as float32 and breaks ties by id: whole numbers stand clear of both.
    runs = {
        query: {passage: float(-rank) for rank, passage in enumerate(passages[:deepest])}
        for query, passages in lists.items()
        if passages
    }
    names = {m: f"{_TREC_NAMES[_kind(m)]}_{_cutoff(m)}" for m in metrics}
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query: dict(judged) for query, judged in qrels.items()},
        {f"{_TREC_NAMES[_kind(m)]}.{_cutoff(m)}" for m in metrics},
    )
    found: dict[str, dict[str, float]] = evaluator.evaluate(runs)
    return {
        metric: {query: found[query][name] if query in found else 0.0 for query in qrels}
        for metric, name in names.items()
    }


def _reciprocal_rank(judged: Mapping[str, int], passages: Sequence[str]) -> float:
    ranks = (rank for rank, passage in enumerate(passages[:10], 1) if judged.get(passage, 0) > 0)
    return next((1.0 / rank for rank in ranks), 0.0)


def _judged_share(judged: Mapping[str, int], passages: Sequence[str]) -> float:
    first = passages[:10]
    return sum(passage in judged for passage in first) / len(first) if first else 0.0
