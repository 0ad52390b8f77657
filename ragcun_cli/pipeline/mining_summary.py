"""The closing table of a mining: what the rules left out, how hard the negatives are."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ragcun_cli.spec.profile import MiningConfig

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RANKS = (1, 10, 100)


def summarise(
    details: Path, config: MiningConfig, *, passages: int, without_positive: int
) -> dict[str, Any]:
    """The numbers of a mining, from one line of facts a query.

    Args:
        details: written by `mine`.
        config: of the mining.
        passages: in the corpus.
        without_positive: training queries that were left out, as nothing relevant is known.
    """
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    ranks: Counter[str] = Counter()
    scores = {kind: array("f") for kind in ("positive", "hard", "random")}
    fewest = int(config.negatives_per_query * config.hard_share)
    with details.open(encoding="utf-8") as stream:
        for line in stream:
            facts = json.loads(line)
            counts["queries"] += 1
            counts["hard_negatives"] += len(facts["hard"])
            counts["random_negatives"] += len(facts["random"])
            counts["queries_short_of_hard_negatives"] += len(facts["hard"]) < fewest
            counts["queries_without_hits"] += not facts["hits"]
            counts["candidates"] += facts["candidates"]
            dropped.update(facts["dropped"])
            ranks[_rank_group(facts["rank"])] += 1
            scores["positive"].append(facts["positive"])
            for kind in ("hard", "random"):
                scores[kind].extend(facts[kind])
    names = ("queries", "hard_negatives", "random_negatives", "queries_short_of_hard_negatives")
    return {
        "passages": passages,
        **{name: counts[name] for name in (*names, "queries_without_hits", "candidates")},
        "queries_without_positive": without_positive,
        "dropped": dict(dropped),
        "rank_of_positive": {name: ranks[name] for name in _rank_groups()},
        "scores": {kind: _quantiles(values) for kind, values in scores.items()},
    }


def _rank_groups() -> list[str]:
    """``1``, ``2 to 10``, and so on, as far as hits are looked for, and those that are none."""
    bounds = zip((0, *RANKS), RANKS, strict=False)
    ranges = [f"{low + 1} to {high}" if low + 1 < high else f"{high}" for low, high in bounds]
    return [*ranges, "further down", "no hit"]


def _rank_group(rank: int | None) -> str:
    if rank is None:
        return "no hit"
    return _rank_groups()[bisect_left(RANKS, rank)]


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Quantile -> score as a hit; None where there are no such passages."""
    if not len(values):
        return None
    found = np.quantile(np.asarray(values), QUANTILES).tolist()
    return {f"{q:g}": round(value, 3) for q, value in zip(QUANTILES, found, strict=True)}
