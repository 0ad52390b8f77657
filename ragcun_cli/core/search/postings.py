"""Postings: made from the terms of passages, and the best passages of a query found in them.

Postings are three arrays: ``rows`` and ``scores`` hold, term after term, the passages that a term
occurs in, ascending, and what it adds to their scores; those of term ``t`` stand from ``starts[t]``
to ``starts[t + 1]``. What a passage's terms add is summed in the order of the query.

Compiled when first called, in about two seconds, and not kept: a home that is full or read-only
would fail a search.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.search.bm25 import Floats, Ints
from ragcun_cli.core.search.compiled import njit

_WINDOW = 2**16  # passages scored at once: 256 KiB of float32, which stays in a core's own cache
_ROW_BITS = 0xFFFFFFFF


@njit(nogil=True)
def count_occurrences(tokens: Ints, lengths: Ints, first: int, seen: Ints, found: Ints) -> None:
    """Add to ``found`` in how many of some passages each term occurs.

    Args:
        tokens: their terms, passage after passage.
        lengths: ``(passages,)`` how many terms each has.
        first: row of the first of them.
        seen: ``(terms,)`` last row that each term occurred in so far, -1 for none; carried on.
        found: ``(terms,)``; carried on.
    """
    at = 0
    for passage in range(len(lengths)):
        for term in tokens[at : at + lengths[passage]]:
            if seen[term] != first + passage:
                seen[term] = first + passage
                found[term] += 1
        at += lengths[passage]


@njit(nogil=True)
def add_postings(
    tokens: Ints,
    lengths: Ints,
    first: int,
    first_term: int,
    starts: NDArray[np.int64],
    filled: Ints,
    rows: Ints,
    counts: Floats,
) -> None:
    """Append some passages to the postings of the terms from ``first_term`` on.

    Args:
        tokens: their terms, passage after passage.
        lengths: ``(passages,)`` how many terms each has.
        first: row of the first of them.
        first_term: the term that ``starts[0]`` is of.
        starts: ``(terms,)`` where the postings of each term begin.
        filled: ``(terms,)`` how many of them are there; carried on.
        rows: ``(postings,)`` passages, written here.
        counts: ``(postings,)`` how often the terms occur in them, written here.
    """
    at = 0
    for passage in range(len(lengths)):
        row = first + passage
        for token in tokens[at : at + lengths[passage]]:
            term = token - first_term
            if term < 0 or term >= len(starts):
                continue
            end = starts[term] + filled[term]
            if filled[term] > 0 and rows[end - 1] == row:
                counts[end - 1] += 1
            else:
                rows[end] = row
                counts[end] = 1
                filled[term] += 1
        at += lengths[passage]


@njit(nogil=True)
def best(
    terms: Ints,
    ends: NDArray[np.int64],
    bases: Floats,
    starts: NDArray[np.int64],
    rows: Ints,
    scores: Floats,
    passages: int,
    depth: int,
) -> NDArray[np.int64]:
    """``(q, depth)`` keys of the best passages of each query, in no order; 0 where there are fewer.

    Keys are ordered as passages are: by score, and where scores are equal the lower row is better,
    also at the cut; ``read_keys`` takes them apart. Only passages that a posting gives a score
    above 0 count.

    Args:
        terms: of the queries, one query after the other.
        ends: ``(q,)`` where those of each query end.
        bases: ``(q,)`` added to every score.
        starts: of the postings.
        rows: of the postings.
        scores: of the postings.
        passages: how many there are.
        depth: how many to keep, at least 1.
    """
    keys = np.zeros((len(ends), depth), np.int64)
    window = np.zeros(_WINDOW, np.float32)
    begin = 0
    for query in range(len(ends)):
        asked = terms[begin : ends[query]]
        begin = ends[query]
        heap = keys[query]
        nexts, lasts = starts[asked], starts[asked + 1]
        reached = nexts.copy()
        for low in range(0, passages, _WINDOW):
            for term in range(len(asked)):
                first = nexts[term]
                last = _first_from(rows, first, min(first + _WINDOW, lasts[term]), low + _WINDOW)
                for at in range(first, last):
                    window[np.uint32(rows[at] - low)] += scores[at]
                reached[term] = last
            floor = _floor(heap[0], bases[query])
            for term in range(len(asked)):
                for at in range(nexts[term], reached[term]):
                    place = np.uint32(rows[at] - low)
                    part = window[place]
                    if part > floor:
                        bits = np.float32(part + bases[query]).view(np.int32)
                        key = (np.int64(bits) << 32) | (_ROW_BITS - rows[at])
                        if key > heap[0]:
                            _replace_lowest(heap, key)
                            floor = _floor(heap[0], bases[query])
                    window[place] = 0
                nexts[term] = reached[term]
    return keys


@njit(nogil=True)
def _first_from(rows: Ints, begin: int, end: int, row: int) -> int:
    """Where the first of some ascending rows stands that is not below a row."""
    while begin < end:
        middle = (begin + end) // 2
        if rows[middle] < row:
            begin = middle + 1
        else:
            end = middle
    return begin


@njit(nogil=True)
def _floor(key: int, base: np.float32) -> np.float32:
    """What a passage's score less ``base`` has to exceed if it is to reach that of a key.

    A little too low, because sums are rounded, and never below 0.
    """
    needed = np.int32(key >> 32).view(np.float32) * (1 - 2.0**-21) - base
    return np.float32(needed) if needed > 0 else np.float32(0)


@njit(nogil=True)
def _replace_lowest(heap: NDArray[np.int64], key: int) -> None:
    """Put a key into a heap in the place of its lowest one, which is ``heap[0]``."""
    place, child = 0, 1
    while child < len(heap):
        if child + 1 < len(heap) and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place, child = child, 2 * child + 1
    heap[place] = key


def read_keys(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Rows and scores, both of the shape of the keys of hits."""
    return _ROW_BITS - (keys & _ROW_BITS), (keys >> 32).astype(np.int32).view(np.float32)
