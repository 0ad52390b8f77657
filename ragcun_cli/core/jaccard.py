"""Which texts have nearly the same words: the Jaccard similarity of their sets of words."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_ROUNDING = 1e-9
"""Keeps 0.55 * 100, above 55 in floats, from 56: a prefix may be too long, never too short."""


class Alike(NamedTuple):
    """The texts that are like one text."""

    rows: NDArray[np.int32]
    """Ascending."""

    similarities: NDArray[np.float64]


def alike(texts: Sequence[str], others: Sequence[str], *, near: float) -> Iterator[Alike]:
    """For each text in turn, all others whose sets of words have a Jaccard similarity of ``near``.

    Exact, by prefix filtering (Bayardo et al., WWW 2007). Sets so similar share at least
    ``ceil(near * n)`` words, n being the size of either. In one order of all words, their first
    common word is therefore among the first ``n - ceil(near * n) + 1`` of each; rare words coming
    first, few sets share one of those, and these are compared.

    Args:
        texts: words parted by spaces; a text without words is like no other.
        others: likewise.
        near: above 0 and up to 1.
    """
    rank = _by_rarity(chain(texts, others))
    mine, theirs = _word_sets(texts, rank), _word_sets(others, rank)
    postings = _prefixes(theirs, near).T.tocsr()
    probes, sizes = _prefixes(mine, near), np.diff(theirs.indptr)
    wanted = np.zeros(len(rank), np.int32)
    for row in range(len(texts)):
        words = _row(mine, row)
        rows = np.unique(postings[_row(probes, row)].indices)
        shorter, longer = np.minimum(sizes[rows], len(words)), np.maximum(sizes[rows], len(words))
        rows = rows[shorter / longer >= near]
        wanted[words] = 1
        common = theirs[rows] @ wanted
        wanted[words] = 0
        similarities = common / (sizes[rows] + len(words) - common)
        found = similarities >= near
        yield Alike(rows[found], similarities[found])


def first_of_alike(texts: Sequence[str], *, near: float) -> Iterator[bool]:
    """For each text in turn whether it stays: it is like none that stayed before it.

    Args:
        texts: as for `alike`.
        near: likewise.
    """
    kept: dict[int, None] = {}
    for row, found in enumerate(alike(texts, texts, near=near)):
        if stays := kept.keys().isdisjoint(found.rows.tolist()):
            kept[row] = None
        yield stays


def word_overlap(text: str, other: str) -> float:
    """Jaccard similarity of two texts' sets of words, in [0, 1]: 1 for the same words.

    0 where neither has a word. Blind to order and repetition.
    """
    first, second = set(text.split()), set(other.split())
    together = first | second
    return len(first & second) / len(together) if together else 0.0


def _by_rarity(texts: Iterable[str]) -> dict[str, int]:
    """Word -> place in an order of all words, the rarest first."""
    times: Counter[str] = Counter()
    for text in texts:
        times.update(set(text.split()))
    return {word: rank for rank, word in enumerate(sorted(times, key=lambda w: (times[w], w)))}


def _word_sets(texts: Iterable[str], rank: Mapping[str, int]) -> csr_array:
    """One row a text, with a 1 for each of its words; a row's words are in their order."""
    words, ends = array("i"), array("q", [0])
    for text in texts:
        words.extend(sorted({rank[word] for word in text.split()}))
        ends.append(len(words))
    cells = (np.ones(len(words), np.int32), np.asarray(words), np.asarray(ends))
    return csr_array(cells, shape=(len(ends) - 1, len(rank)))


def _prefixes(sets: csr_array, near: float) -> csr_array:
    """The first words of each set, one of which it shares with any that is near it."""
    sizes = np.diff(sets.indptr)
    lengths = sizes - np.ceil(near * sizes - _ROUNDING) + 1
    places = np.arange(sets.nnz) - np.repeat(sets.indptr[:-1], sizes)
    cells = (places < np.repeat(lengths, sizes), sets.indices, sets.indptr)
    prefixes = csr_array(cells, shape=sets.shape, dtype=np.int32, copy=True)
    prefixes.eliminate_zeros()
    return prefixes


def _row(sets: csr_array, row: int) -> NDArray[np.int32]:
    words: NDArray[np.int32] = sets.indices[sets.indptr[row] : sets.indptr[row + 1]]
    return words
