"""The best passages of each query so far, in no order, with room for more.

Only when the room is full are the k best chosen, so that a passage costs a few steps however large
k is. Better is a higher score, and of equal scores the lower row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.search.compiled import njit

_FRESH = 4  # the k best are chosen when the passages put since are more than a fourth of k


class Reservoirs(NamedTuple):
    """What queries hold."""

    scores: NDArray[np.float64]
    """``(q, room)``, room above k."""
    rows: NDArray[np.int64]
    """``(q, room)``."""
    counts: NDArray[np.int64]
    """``(q,)`` how many of them are filled."""
    last: NDArray[np.float64]
    """``(q,)`` score of the k-th best when it was last chosen; -inf before."""


def empty(queries: int, k: int) -> Reservoirs:
    """Room for half as many again as are kept."""
    room = (queries, k + k // 2 + 8)
    return Reservoirs(
        scores=np.empty(room),
        rows=np.empty(room, np.int64),
        counts=np.zeros(queries, np.int64),
        last=np.full(queries, -np.inf),
    )


@njit(nogil=True)
def keep(
    held: Reservoirs,
    first: int,
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    places: NDArray[np.int32],
    scores: NDArray[np.float64],
    k: int,
) -> None:
    """Let queries hold some passages more, as far as these can be among their k best.

    Args:
        held: of all queries; those of these are changed.
        first: number of the first of these queries.
        starts: ``(b + 1,)`` where the passages of each query begin among the places.
        rows: of passages.
        places: of the queries' passages among the rows.
        scores: of these.
        k: how many are kept.
    """
    for query in range(first, first + len(starts) - 1):
        for at in range(starts[query - first], starts[query - first + 1]):
            if scores[at] < held.last[query]:
                continue
            if held.counts[query] == held.scores.shape[1]:
                compact(held, query, k)
            end = held.counts[query]
            held.scores[query, end], held.rows[query, end] = scores[at], rows[places[at]]
            held.counts[query] += 1
        fresh = held.counts[query] - k
        if fresh > k // _FRESH or (fresh >= 0 and held.last[query] == -np.inf):
            compact(held, query, k)


@njit(nogil=True)
def compact(held: Reservoirs, query: int, k: int) -> None:
    """Throw away all but the k best of a query that holds k or more."""
    select(held.scores[query], held.rows[query], held.counts[query], k)
    held.counts[query], held.last[query] = k, held.scores[query, k - 1]


@njit(nogil=True)
def select(scores: NDArray[Any], rows: NDArray[Any], count: int, k: int) -> None:
    """Bring the k best of some to the front, in no order but the worst of the k at its end.

    Args:
        scores: to choose by.
        rows: all different; by these, ascending, equal ones are chosen. They move along.
        count: of how many.
        k: at most the count.
    """
    low, high = 0, count - 1
    while low < high:
        middle = _part(scores, rows, low, high)
        if k - 1 < middle:
            high = middle - 1
        elif k - 1 > middle:
            low = middle + 1
        else:
            return


@njit(nogil=True)
def sort_best(held: Reservoirs, first: int, stop: int, k: int) -> None:
    """Leave the k best of queries ``first`` to ``stop``, best first and equal ones by row."""
    stack = np.empty((64, 2), np.int64)
    for query in range(first, stop):
        if held.counts[query] > k:
            compact(held, query, k)
        scores, rows = held.scores[query], held.rows[query]
        stack[0, 0], stack[0, 1], depth = 0, held.counts[query] - 1, 1
        while depth > 0:
            depth -= 1
            low, high = stack[depth]
            while low < high:
                middle = _part(scores, rows, low, high)
                # The longer part waits, so that the stack stays below 64.
                if middle - low > high - middle:
                    stack[depth, 0], stack[depth, 1], low = low, middle - 1, middle + 1
                else:
                    stack[depth, 0], stack[depth, 1], high = middle + 1, high, middle - 1
                depth += 1


@njit(nogil=True)
def _part(scores: NDArray[Any], rows: NDArray[Any], low: int, high: int) -> int:
    """Move what is better than a middle one before it and the rest behind; where it stands.

    Without a branch in the loop, which would be guessed wrongly half the time.
    """
    middle = (low + high) // 2
    pivot, row = scores[middle], rows[middle]
    scores[middle], rows[middle] = scores[high], rows[high]
    left = low
    for at in range(low, high):
        score, number = scores[at], rows[at]
        scores[at], rows[at] = scores[left], rows[left]
        scores[left], rows[left] = score, number
        left += (score > pivot) | ((score == pivot) & (number < row))
    scores[high], rows[high] = scores[left], rows[left]
    scores[left], rows[left] = pivot, row
    return left
