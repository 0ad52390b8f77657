"""What ranking does on a CPU to float32 products: choosing by them, and scoring again in float64.

Neither fused nor reordered: float64 scores are to the bit those of ``exact_scores``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.search.bm25 import Floats
from ragcun_cli.core.search.compiled import njit
from ragcun_cli.core.search.reservoirs import Reservoirs, select
from ragcun_cli.core.search.topk_passages import (
    COSINE,
    EUCLIDEAN,
    Doubles,
    Piece,
    Vectors,
    tree_sum,
)

_TILE = 512  # passages scored together: 1 MiB of 512 dimensions, which a core may have to itself
_CROWD = 4  # a cut is sharpened when the passages that reach it are more than a fourth of k


class Asked(NamedTuple):
    """Queries, and how estimates, float32 products with biases, compare with their exact scores."""

    vectors: Vectors
    """``(q, d)``, float32 or float64."""
    lengths: Doubles
    """``(q,)``."""
    shift: Doubles
    """``(q,)``: an exact score of measure m is ``shift + slope m`` among the estimates."""
    slope: Doubles
    slack: Doubles
    """``(q,)`` by how much the estimates of a query can be wrong."""


@njit(nogil=True)
def choose(
    held: Reservoirs,
    asked: Asked,
    piece: Piece,
    products: Floats,
    first: int,
    k: int,
    similarity: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Which passages can be among the best of some queries, as ``scores_of`` takes them.

    Args:
        held: of all queries.
        asked: all queries.
        piece: the passages.
        products: ``(b, n)`` float32 products of these queries with the passages.
        first: number of the first of these queries.
        k: how many are kept.
        similarity: EUCLIDEAN, COSINE or DOT.
    """
    padded = (len(piece.rows) + 7) // 8 * 8
    flags, found = np.zeros(padded, np.int8), np.empty(padded, np.int32)
    values = np.empty(len(piece.rows) + held.scores.shape[1], np.float32)
    starts = np.zeros(len(products) + 1, np.int64)
    places = np.empty(products.size, np.int32)
    for number in range(len(products)):
        query, estimates = first + number, products[number]
        cut = _in_estimates(asked, query, held.last[query], similarity)
        count = _not_below(estimates, piece.upper, cut - 2 * asked.slack[query], flags, found)
        if count > k // _CROWD and count + held.counts[query] > k:
            for at in range(count):
                values[at] = estimates[found[at]] + piece.lower[found[at]]
            cut = _k_th_best(held, asked, query, values, count, k, similarity)
            bound, reached = np.float32(cut - 2 * asked.slack[query]), 0
            for at in range(count):
                place = found[reached] = found[at]
                reached += estimates[place] + piece.upper[place] >= bound
            count = reached
        for at in range(count):
            places[starts[number] + at] = found[at]
        starts[number + 1] = starts[number] + count
    return starts, places


@njit(nogil=True)
def _in_estimates(asked: Asked, query: int, score: float, similarity: int) -> float:
    """What an exact score is among the estimates."""
    if similarity == EUCLIDEAN:
        score = -(score * score)
    elif similarity == COSINE:
        score = 2 * score - 2
    return float(asked.shift[query] + asked.slope[query] * score)


@njit(nogil=True)
def _not_below(
    products: Floats, bias: Floats, cut: float, flags: NDArray[np.int8], found: NDArray[np.int32]
) -> int:
    """Write down where products and biases reach the cut; how many there are."""
    bound = np.float32(cut)
    for at in range(len(products)):
        flags[at] = products[at] + bias[at] >= bound
    count, words = 0, flags.view(np.int64)
    for word in range(len(words)):
        if words[word] != 0:
            for at in range(8 * word, 8 * word + 8):
                found[count] = at
                count += flags[at]
    return count


@njit(nogil=True)
def _k_th_best(
    held: Reservoirs,
    asked: Asked,
    query: int,
    values: Floats,
    count: int,
    k: int,
    similarity: int,
) -> float:
    """The k-th best of what a query holds and of some lower bounds; spoils the values."""
    for at in range(held.counts[query]):
        values[count] = _in_estimates(asked, query, held.scores[query, at], similarity)
        count += 1
    numbers = np.empty(count, np.int64)
    for at in range(count):
        numbers[at] = at
    select(values, numbers, count, k)
    return float(values[k - 1])


@njit(nogil=True, error_model="numpy")
def compiled_scores(
    asked: Asked,
    piece: Piece,
    first: int,
    starts: NDArray[np.int64],
    places: NDArray[np.int32],
    similarity: int,
) -> Doubles:
    """``(c,)`` float64 scores, a tile of passages at a time.

    Args:
        asked: all queries.
        piece: the passages.
        first: number of the first query.
        starts: ``(b + 1,)`` where the passages of each query begin among the places.
        places: of passages, ascending for each query.
        similarity: EUCLIDEAN, COSINE or DOT.
    """
    scores = np.empty(starts[-1])
    query, buffer = np.empty(asked.vectors.shape[1]), np.empty(asked.vectors.shape[1])
    reached = starts[:-1].copy()
    for tile in range(0, len(piece.rows), _TILE):
        for number in range(len(reached)):
            at, stop = reached[number], starts[number + 1]
            if at == stop or places[at] >= tile + _TILE:
                continue
            for i in range(len(query)):
                query[i] = asked.vectors[first + number, i]
            while at < stop and places[at] < tile + _TILE:
                place = places[at]
                score = exact_score(query, piece.vectors[place], similarity, buffer)
                if similarity == COSINE:
                    score /= asked.lengths[first + number] * piece.lengths[place]
                scores[at] = score
                at += 1
            reached[number] = at
    return scores


@njit(nogil=True)
def exact_score(query: Doubles, passage: Vectors, similarity: int, buffer: Doubles) -> float:
    """The float64 score of a pair, not yet divided by lengths; spoils the buffer."""
    half, euclidean = len(query) // 2, similarity == EUCLIDEAN
    # The first of the halvings of row_sums is done here, while the terms are at hand.
    if euclidean:
        for i in range(half):
            left, right = query[i] - passage[i], query[half + i] - passage[half + i]
            buffer[i] = left * left + right * right
    else:
        for i in range(half):
            buffer[i] = query[i] * passage[i] + query[half + i] * passage[half + i]
    if len(query) % 2:
        left = query[2 * half] - passage[2 * half] if euclidean else query[2 * half]
        right = left if euclidean else passage[2 * half]
        buffer[0] = left * right + (buffer[0] if half else 0.0)
    total = tree_sum(buffer[: max(1, half)])
    return float(0.0 - np.sqrt(total) if euclidean else total + 0.0)
