"""Retrieval metrics of ranked lists, through trec_eval's own code."""

from collections.abc import Iterable, Mapping, Sequence

import pytrec_eval

METRICS = ("ndcg@10", "recall@100", "mrr@10", "map@100")
_TREC_NAMES = {"ndcg@10": "ndcg_cut_10", "recall@100": "recall_100", "map@100": "map_cut_100"}


def score_queries(
    qrels: Mapping[str, Mapping[str, int]], ranked: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Metric -> query id -> value in [0, 1], for every judged query.

    A judged query without results, or without a relevant passage, counts 0; results of unjudged
    queries are ignored. trec_eval sorts by score in float32, so it is given the ranks: ties of the
    true scores are the caller's to break. nDCG has linear gains and a log2 discount (Jarvelin and
    Kekalainen 2002); mrr@10 looks at the first 10 alone; map@100 is trec_eval's map_cut.

    Args:
        qrels: query id -> passage id -> grade; above 0 is relevant.
        ranked: query id -> passage ids, best first.

    Raises:
        ValueError: a list names a passage twice.
    """
    runs = {query: _ranks(query, ranked.get(query, ())) for query in qrels}
    judged = {query: dict(grades) for query, grades in qrels.items()}
    measures = set(_TREC_NAMES.values())
    full = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(runs)
    scores = {
        name: {query: full.get(query, {}).get(trec, 0.0) for query in qrels}
        for name, trec in _TREC_NAMES.items()
    }
    scores["mrr@10"] = {query: _reciprocal(qrels[query], ranked.get(query, ())) for query in qrels}
    return {name: scores[name] for name in METRICS}


def _ranks(query: str, passages: Sequence[str]) -> dict[str, float]:
    ranks = {passage: float(len(passages) - rank) for rank, passage in enumerate(passages)}
    if len(ranks) < len(passages):
        raise ValueError(f"the ranking of query '{query}' names a passage twice")
    return ranks


def _reciprocal(grades: Mapping[str, int], passages: Sequence[str]) -> float:
    found = (1 / rank for rank, name in enumerate(passages[:10], 1) if grades.get(name, 0) > 0)
    return next(found, 0.0)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean.

    Raises:
        ValueError: no values.
    """
    listed = list(values)
    if not listed:
        raise ValueError("the mean of no values")
    return sum(listed) / len(listed)
