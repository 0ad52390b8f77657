"""What ranking does to each score on a CPU: choosing, scoring again in float64, keeping the best.

Each query has a reservoir: the best passages so far in no order, and room for more. Only when it is
full are the k best chosen, so that a passage costs a few steps however large k is.

Compiled when first called, in a few seconds, and not kept: a home that is full or read-only would
fail a search. Neither fused nor reordered: float64 scores are to the bit those of ``exact_scores``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ragcun_cli.core.scoring import LONGEST_SQUARED, SHORTEST_SQUARED, UNDERFLOW

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]
Vectors = NDArray[Any]
Places = NDArray[np.int32]

EUCLIDEAN, COSINE, DOT = 0, 1, 2

_CROWD = 8  # a cut is sharpened when the passages that reach it are more than an eighth of k
_FRESH = 4  # a cut is renewed when the passages kept since are a fourth of k


class Reservoirs(NamedTuple):
    """What queries hold."""

    scores: Doubles
    """``(q, room)``, room above k."""
    rows: Rows
    """``(q, room)``."""
    counts: Rows
    """``(q,)`` how many of them are filled."""
    last: Doubles
    """``(q,)`` score of the k-th best when it was last looked for; -inf before."""


class Asked(NamedTuple):
    """Queries, and how their float32 estimates compare with exact scores."""

    vectors: Vectors
    """``(q, d)``, float32 or float64."""
    lengths: Doubles
    """``(q,)``."""
    shift: Doubles
    """``(q,)``: an exact score of measure m, to the estimates, is ``shift + slope m``."""
    slope: Doubles
    slack: Doubles
    """``(q,)`` by how much the estimates of a query can be wrong."""


class Piece(NamedTuple):
    """Passages to rank."""

    vectors: Vectors
    """``(n, d)``, float32 or float64."""
    rows: Rows
    """``(n,)``."""
    centred: Floats
    """``(n, d)`` right factors of the float32 product."""
    lengths: Doubles
    """``(n,)``."""
    lower: Floats
    """``(n,)`` added to products: the least that the exact value can be."""
    upper: Floats
    """``(n,)`` added to products: the most."""
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
        roundoff: twice d times the unit roundoff of float32, and a little.
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
        squared = _tree_sum(buffer)
        if not (shortest < squared <= LONGEST_SQUARED):
            piece.lengths[place] = -1.0
            continue
        length = piece.lengths[place] = np.sqrt(squared)
        scale = 1 / length if similarity == COSINE else 1.0
        for i in range(width):
            away = point[i] * scale - centre[i]
            centred[i] = away
            buffer[i] = away * away
        piece.sums[place] = squared
        squared = _tree_sum(buffer)
        piece.sums[place] += 1.618 * squared
        if similarity == DOT:
            bias = 0.0
            slack = double * (length + middle) + roundoff * np.sqrt(squared)
        else:
            bias = -squared
            slack = 2 * roundoff * squared + (8 * double if similarity == COSINE else 0.0)
        slack += width * UNDERFLOW
        piece.lower[place] = bias - slack
        piece.upper[place] = piece.lower[place] + 2 * np.float32(slack)


@njit(nogil=True, error_model="numpy")
def keep_best(
    held: Reservoirs,
    asked: Asked,
    piece: Piece,
    products: Floats,
    queries: tuple[int, int, int],
    k: int,
    similarity: int,
) -> int:
    """Let passages compete for the places of some queries; how many pairs it scored exactly.

    Args:
        held: of all queries; those of these are changed.
        asked: all queries.
        piece: the passages.
        products: ``(b, n)`` float32 products of a block of queries with the passages.
        queries: which to do, first and after the last, and the query of the block's first row.
        k: how many are kept.
        similarity: EUCLIDEAN, COSINE or DOT.
    """
    padded = (len(piece.rows) + 7) // 8 * 8
    flags, found = np.zeros(padded, np.int8), np.empty(padded, np.int32)
    values = np.empty(len(piece.rows) + held.scores.shape[1], np.float32)
    query, buffer = np.empty(asked.vectors.shape[1]), np.empty(asked.vectors.shape[1])
    scored = 0
    for number in range(queries[0], queries[1]):
        estimates = products[number - queries[2]]
        cut = np.float32(
            _in_estimates(asked, number, held.last[number], similarity) - 2 * asked.slack[number]
        )
        count = _not_below(estimates, piece.upper, cut, flags, found)
        if count > k // _CROWD and count + held.counts[number] > k:
            cut = _sharper(held, asked, number, estimates, piece.lower, found[:count], values, k, similarity)
            left = 0
            for at in range(count):
                place = found[left] = found[at]
                left += estimates[place] + piece.upper[place] >= cut
            count = left
        if count == 0:
            continue
        scored += count
        query[:] = asked.vectors[number]
        for place in found[:count]:
            score = exact_score(query, piece.vectors[place], similarity, buffer)
            if similarity == COSINE:
                score /= asked.lengths[number] * piece.lengths[place]
            if score >= held.last[number]:
                _put(held, number, score, piece.rows[place], k)
        fresh = held.counts[number] - k
        if fresh > k // _FRESH or (fresh >= 0 and held.last[number] == -np.inf):
            compact(held, number, k)
    return scored


@njit(nogil=True)
def _in_estimates(asked: Asked, number: int, score: float, similarity: int) -> float:
    """What an exact score is on the scale of the product."""
    if similarity == EUCLIDEAN:
        score = -(score * score)
    elif similarity == COSINE:
        score = 2 * score - 2
    return asked.shift[number] + asked.slope[number] * score


@njit(nogil=True)
def _sharper(
    held: Reservoirs,
    asked: Asked,
    number: int,
    estimates: Floats,
    lower: Floats,
    found: Places,
    values: Floats,
    k: int,
    similarity: int,
) -> np.float32:
    """What an estimate has to reach if its passage can be among the k best of held and found."""
    for at in range(len(found)):
        values[at] = estimates[found[at]] + lower[found[at]]
    count = len(found)
    for score in held.scores[number, : held.counts[number]]:
        values[count] = _in_estimates(asked, number, score, similarity)
        count += 1
    select(values, held.rows[number, :0], count, k)
    return np.float32(values[k - 1] - 2 * asked.slack[number])


@njit(nogil=True)
def _not_below(
    products: Floats, bias: Floats, cut: np.float32, flags: NDArray[np.int8], found: Places
) -> int:
    """Write down where products and biases reach the cut; how many there are."""
    for at in range(len(products)):
        flags[at] = products[at] + bias[at] >= cut
    count, words = 0, flags.view(np.int64)
    for word in range(len(words)):
        if words[word] != 0:
            for at in range(8 * word, 8 * word + 8):
                found[count] = at
                count += flags[at]
    return count


@njit(nogil=True)
def exact_score(query: Doubles, passage: Vectors, similarity: int, buffer: Doubles) -> float:
    """The float64 score of a pair, not yet divided by lengths; spoils the buffer."""
    half = len(query) // 2
    if similarity == EUCLIDEAN:
        for i in range(half):
            left, right = query[i] - passage[i], query[half + i] - passage[half + i]
            buffer[i] = left * left + right * right
        if len(query) % 2:
            left = query[2 * half] - passage[2 * half]
            buffer[0] = left * left + (buffer[0] if half else 0.0)
        return 0.0 - np.sqrt(_tree_sum(buffer[: max(1, half)]))
    for i in range(half):
        buffer[i] = query[i] * passage[i] + query[half + i] * passage[half + i]
    if len(query) % 2:
        buffer[0] = query[2 * half] * passage[2 * half] + (buffer[0] if half else 0.0)
    return _tree_sum(buffer[: max(1, half)]) + 0.0


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
    return values[0]


@njit(nogil=True)
def _put(held: Reservoirs, number: int, score: float, row: int, k: int) -> None:
    if held.counts[number] == held.scores.shape[1]:
        compact(held, number, k)
    at = held.counts[number]
    held.scores[number, at], held.rows[number, at] = score, row
    held.counts[number] += 1


@njit(nogil=True)
def compact(held: Reservoirs, number: int, k: int) -> None:
    """Throw away all but the k best of a query that holds k or more."""
    select(held.scores[number], held.rows[number], held.counts[number], k)
    held.counts[number], held.last[number] = k, held.scores[number, k - 1]


@njit(nogil=True)
def select(scores: Vectors, rows: Vectors, count: int, k: int) -> None:
    """Bring the k best of some to the front, in no order but the worst of the k at its end.

    Args:
        scores: to choose by.
        rows: by which equal ones are chosen, moved along; none if empty.
        count: of how many.
        k: at most the count.
    """
    low, high = 0, count - 1
    while low < high:
        left, right = _part(scores, rows, low, high)
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            return


@njit(nogil=True)
def sort_best(held: Reservoirs, first: int, stop: int, k: int) -> None:
    """Leave the k best of queries ``first`` to ``stop``, best first and equal ones by row."""
    stack = np.empty((64, 2), np.int64)
    for number in range(first, stop):
        if held.counts[number] > k:
            compact(held, number, k)
        scores, rows = held.scores[number], held.rows[number]
        stack[0, 0], stack[0, 1], depth = 0, held.counts[number] - 1, 1
        while depth > 0:
            depth -= 1
            low, high = stack[depth]
            while low < high:
                left, right = _part(scores, rows, low, high)
                # The longer part waits, so that the stack stays below 64.
                if right - low > high - left:
                    stack[depth, 0], stack[depth, 1], low = low, right, left
                else:
                    stack[depth, 0], stack[depth, 1], high = left, high, right
                depth += 1


@njit(nogil=True)
def _part(scores: Vectors, rows: Vectors, low: int, high: int) -> tuple[int, int]:
    """Move what is better than a middle one before the rest; where right and left part begin."""
    middle = (low + high) // 2
    pivot = scores[middle]
    if len(rows) == 0:
        while low <= high:
            while scores[low] > pivot:
                low += 1
            while scores[high] < pivot:
                high -= 1
            if low <= high:
                scores[low], scores[high] = scores[high], scores[low]
                low, high = low + 1, high - 1
        return low, high
    row = rows[middle]
    while low <= high:
        while scores[low] > pivot or (scores[low] == pivot and rows[low] < row):
            low += 1
        while scores[high] < pivot or (scores[high] == pivot and rows[high] > row):
            high -= 1
        if low <= high:
            scores[low], scores[high] = scores[high], scores[low]
            rows[low], rows[high] = rows[high], rows[low]
            low, high = low + 1, high - 1
    return low, high
