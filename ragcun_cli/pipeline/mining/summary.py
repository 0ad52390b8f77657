"""The numbers of a mining: what the rules left out, how hard the negatives are."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ragcun_cli.pipeline.mining.candidates import COUNTED
from ragcun_cli.spec.mining_config import MiningConfig

SCORE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RANKS = (1, 10, 100)
STEPS = (1, 2, 3, 5)
"""And ten, a hundred, a thousand times these: ranks at which found positives are counted."""
BINS = 40
KINDS = ("positive", "hard", "random")


def summarise(
    details: Path, config: MiningConfig, *, passages: int, without_positive: int
) -> dict[str, Any]:
    """The numbers of one split of a mining, from one line of facts a query.

    Args:
        details: written by `mine`.
        config: of the mining.
        passages: in the corpus.
        without_positive: queries that were left out, as nothing relevant is known.
    """
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    would_drop: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    ranks: list[int] = []
    scores = {kind: array("f") for kind in KINDS}
    fewest = int(config.negatives_per_query * config.hard_share)
    for facts in _facts(details):
        counts["queries"] += 1
        counts["hard_negatives"] += len(facts["hard"])
        counts["random_negatives"] += len(facts["random"])
        counts["queries_short_of_hard_negatives"] += len(facts["hard"]) < fewest
        counts["queries_without_hits"] += not facts["hits"]
        counts["candidates"] += facts["candidates"]
        dropped.update(facts["dropped"])
        counted = facts["would_drop"]
        would_drop.update(counted)
        asked.update(counted.keys())
        ranks += [facts["rank"]] if facts["rank"] is not None else []
        scores["positive"].append(facts["positive"])
        for kind in ("hard", "random"):
            scores[kind].extend(facts[kind])
    ranks.sort()
    names = ("queries", "hard_negatives", "random_negatives", "queries_short_of_hard_negatives")
    return {
        "passages": passages,
        "depth": config.depth,
        **{name: counts[name] for name in (*names, "queries_without_hits", "candidates")},
        "queries_without_positive": without_positive,
        "dropped": dict(dropped),
        "would_drop": _would_drop(config, would_drop, asked),
        "rank_of_positive": _rank_groups(ranks, queries=counts["queries"]),
        "positive_within": {f"{rank}": bisect_right(ranks, rank) for rank in _steps(config.depth)},
        "scores": {kind: _quantiles(values) for kind, values in scores.items()},
        "score_histogram": _histogram(scores),
    }


def _facts(details: Path) -> Iterator[dict[str, Any]]:
    with details.open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def _would_drop(
    config: MiningConfig, hits: Mapping[str, int], queries: Mapping[str, int]
) -> dict[str, dict[str, float] | None]:
    """Rule that is off -> what it would have left out, and of how many queries; None: not counted.

    A model that is not named cannot be asked, and a share of a distance means nothing.
    """
    off = {
        "score_ratio": config.max_score_ratio is None,
        "near_duplicate": config.near_duplicate is None,
        "rescore": config.rescore == "none",
    }
    countable = [rule for rule in COUNTED if rule != "score_ratio" or config.candidates == "bm25"]
    return {
        rule: {"threshold": COUNTED[rule], "hits": hits[rule], "queries": queries[rule]}
        if rule in countable
        else None
        for rule, is_off in off.items()
        if is_off
    }


def _rank_groups(ranks: Sequence[int], *, queries: int) -> dict[str, int]:
    """``1``, ``2 to 10``, and so on, as far as hits are looked for, and those that are none."""
    bounds = zip((0, *RANKS), RANKS, strict=False)
    ranges = [f"{low + 1} to {high}" if low + 1 < high else f"{high}" for low, high in bounds]
    names = [*ranges, "further down"]
    found = Counter(names[bisect_left(RANKS, rank)] for rank in ranks)
    return {name: found[name] for name in names} | {"no hit": queries - len(ranks)}


def _steps(depth: int) -> list[int]:
    """Ranks from 1 to the depth, about evenly on a logarithmic axis."""
    tens = (10**power for power in range(len(f"{depth}")))
    return [*(rank for ten in tens for step in STEPS if (rank := step * ten) < depth), depth]


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Quantile -> score as a hit; None where there are no such passages."""
    if not len(values):
        return None
    found = np.quantile(np.asarray(values), SCORE_QUANTILES).tolist()
    return {f"{q:g}": round(value, 3) for q, value in zip(SCORE_QUANTILES, found, strict=True)}


def _histogram(scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]] | None:
    """``edges`` of bins of one width, from the lowest score to the highest, and counts by kind.

    The last bin has the highest score, too. None where there are no scores.
    """
    values = {kind: np.asarray(found, np.float64) for kind, found in scores.items()}
    together = np.concatenate(list(values.values()))
    if not len(together):
        return None
    edges = np.histogram_bin_edges(together, BINS)
    counts = {kind: np.histogram(found, edges)[0].tolist() for kind, found in values.items()}
    return {"edges": [round(edge, 6) for edge in edges.tolist()], **counts}
