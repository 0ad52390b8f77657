"""Two rankings made one by the ranks of their passages alone."""

from __future__ import annotations

from collections.abc import Sequence

RANK_OFFSET = 60
"""k of Cormack, Clarke and Büttcher 2009, who found little difference between 10 and 500."""


def fused_ranking(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, float]]:
    """Passages of either ranking with their scores, best first: reciprocal-rank fusion.

    The score is the sum of ``1 / (60 + rank)`` over the rankings that have the passage, ranks from
    1: in (0, 2 / 61]. Equal scores stand in order of passage id. Blind to the scores of both
    rankings, so that they need no common scale.
    Source: Cormack, Clarke and Büttcher, SIGIR 2009.

    Args:
        first: passage ids, best first, each once.
        second: the same of another ranking.
    """
    ranks = [
        {passage: RANK_OFFSET + rank for rank, passage in enumerate(one, 1)}
        for one in (first, second)
    ]
    scores = {passage: 1 / rank for one in ranks for passage, rank in one.items()}
    for passage in ranks[0].keys() & ranks[1].keys():
        a, b = (one[passage] for one in ranks)
        scores[passage] = (a + b) / (a * b)  # rounded once, so that equal sums are equal
    return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))
