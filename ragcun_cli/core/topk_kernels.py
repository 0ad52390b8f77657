"""What ranking does on a CPU to vectors and scores, one at a time.

Neither fused nor reordered: float64 scores are to the bit those of ``exact_scores``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.compiled import njit
from ragcun_cli.core.reservoirs import Reservoirs, select
from ragcun_cli.core.scoring import LONGEST_SQUARED, SHORTEST_SQUARED, UNDERFLOW

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Vectors = NDArray[Any]

EUCLIDEAN, COSINE, DOT = 0, 1, 2

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


class Piece(NamedTuple):
    """Passages to rank."""

    vectors: Vectors
    """``(n, d)``, float32 or float64."""
    rows: NDArray[np.int64]
    """``(n,)``."""
    centred: Floats
    """``(n, d)`` right factors of the float32 product."""
    lengths: Doubles
    """``(n,)``."""
    lower: Floats
    """``(n,)`` added to a product: the least that the exact value can be."""
    upper: Floats
    """``(n,)`` added to a product: the most."""
    sums: Doubles
    """``(n,)`` equal for identical passages."""


@njit(nogil=True, error_model="numpy")
def prepare(
    piece: Piece, first: int, stop: int, centre: Doubles, similarity: int, roundoff: float
) -> None:
    """Fill in what is derived of passages ``first`` to ``stop``; length -1 marks unusable ones.

    Args:
        piece: of which ``vectors`` is given.
        first: of the passages to do.
        stop: after the last of them.
        centre: ``(d,)`` subtracted from them.
        similarity: EUCLIDEAN, COSINE or DOT.
        roundoff: as in ``Proposal``, whose ``of_passages`` is the same arithmetic.
    """
    width = len(centre)
    point, buffer = np.empty(width), np.empty(width)
    double = (np.log2(width) + 16) * 2.0**-52
    shortest = SHORTEST_SQUARED if similarity == COSINE else -1.0
    middle = np.sqrt((centre * centre).sum())
    for place in range(first, stop):
        vector, centred = piece.vectors[place], piece.centred[place]
        for i in range(width):
            point[i] = vector[i]
            buffer[i] = point[i] * point[i]
        whole = _tree_sum(buffer)
        if not (shortest < whole <= LONGEST_SQUARED):
            piece.lengths[place] = -1.0
            continue
        length = piece.lengths[place] = np.sqrt(whole)
        scale = 1 / length if similarity == COSINE else 1.0
        for i in range(width):
            away = point[i] * scale - centre[i]
            centred[i] = away
            buffer[i] = away * away
        squared = _tree_sum(buffer)
        piece.sums[place] = whole + 1.618 * squared
        if similarity == DOT:
            bias = 0.0
            slack = double * (length + middle) + roundoff * np.sqrt(squared)
        else:
            bias = -squared
            slack = 2 * roundoff * squared + (8 * double if similarity == COSINE else 0.0)
        slack += width * UNDERFLOW
        piece.lower[place] = bias - slack
        piece.upper[place] = piece.lower[place] + 2 * np.float32(slack)


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
def scores_of(
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
    total = _tree_sum(buffer[: max(1, half)])
    return float(0.0 - np.sqrt(total) if euclidean else total + 0.0)


@njit(nogil=True)
def _tree_sum(values: Doubles) -> float:
    """The sum in the order of ``row_sums``; spoils the values."""
    width = len(values)
    while width > 1:
        half = width // 2
        for i in range(half):
            values[i] += values[half + i]
        if width % 2:
            values[0] += values[width - 1]
        width = half
    return float(values[0])
