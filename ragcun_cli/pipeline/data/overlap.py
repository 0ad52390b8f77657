"""What of a test stands in the data that a model was trained on."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ragcun_cli.pipeline.data import beir
from ragcun_cli.pipeline.data.corpus import Corpus
from ragcun_cli.pipeline.data.stats import WORDLESS, blocks, word_keys
from ragcun_cli.pipeline.progress import Progress

EXAMPLES = 5
_ROUNDING = 1e-9
"""Keeps 0.55 * 100, above 55 in floats, from 56: a prefix may be too long, never too short."""


@dataclass(frozen=True)
class Pair:
    """A query of the test, and the query of the training data that is most like it."""

    test_id: str
    test_text: str
    train_id: str
    train_text: str
    similarity: float
    """Jaccard similarity of their sets of words, from ``near`` to 1 (the same set)."""


@dataclass(frozen=True)
class Overlap:
    """How much of a test stands in training data; each count with what it is a part of."""

    split: str
    near: float
    queries: int
    """Judged in the split."""

    same_queries: int
    """Those with the words of a training query, in its order."""

    near_queries: int
    """Those as similar as ``near`` to a training query, those with its words among them."""

    passages: int
    """In the corpus of the test."""

    same_passages: int
    """Those with the words of a training positive."""

    relevant_passages: int
    """Different passages of the corpus that are relevant to a query of the split."""

    same_relevant_passages: int
    """Those with the words of a training positive."""

    train_queries: int
    """Judged in the training data, with a relevant passage."""

    train_positives: int
    """Different passages that are relevant to them."""

    examples: tuple[Pair, ...]
    """Pairs of near queries, at most one for each query of the test: the most similar first, then
    by id."""


class Alike(NamedTuple):
    """The texts that are like one text."""

    rows: NDArray[np.int32]
    """Ascending."""

    similarities: NDArray[np.float64]


def overlap(
    test_folder: Path, split: str, train_folder: Path, *, progress: Progress, near: float = 0.8
) -> Overlap:
    """How much of a split stands in the training data of another set, or of the same one.

    Training data are the queries judged in the split ``train`` with a relevant passage, and these
    passages. Texts are the same where `beir.words` are; a text without words is like no other.

    Blind to paraphrases, translations and inflections, to passages that share a part only, and,
    for near queries, to languages that put no space between words. Where test and training data
    share a corpus, the positives are among the test's passages by construction, which says nothing
    yet: read the relevant ones.

    Args:
        test_folder: of a stored set.
        split: of that set.
        train_folder: of a stored set with a split ``train``.
        progress: told of each loop.
        near: Jaccard similarity of two queries' sets of words from which on they count as near.

    Raises:
        ValueError: the split is the training data itself, or ``near`` is not in (0, 1].
        DataError: a split is absent, or a file is missing or malformed.
    """
    if split == "train" and test_folder.resolve() == train_folder.resolve():
        raise ValueError(f"'train' of {test_folder} is the training data itself")
    if not 0 < near <= 1:
        raise ValueError(f"near is a similarity above 0 and up to 1, got {near}")
    judged = _relevant(test_folder, split)
    trained = {query: ids for query, ids in _relevant(train_folder, "train").items() if ids}
    test, train = _Queries.read(test_folder, judged), _Queries.read(train_folder, trained)
    corpus, train_corpus = Corpus.open(test_folder), Corpus.open(train_folder)
    relevant, positives = _rows(corpus, judged), _rows(train_corpus, trained)
    known = _keys(train_corpus.take(positives), "read training positives", progress)
    same = _stand_in(_keys(corpus, "compare passages", progress), known)
    train_words = set(train.words) - {""}
    pairs = _nearest(test, train, near, progress)
    return Overlap(
        split=split,
        near=near,
        queries=len(judged),
        same_queries=sum(words in train_words for words in test.words),
        near_queries=len(pairs),
        passages=len(corpus),
        same_passages=int(np.count_nonzero(same)),
        relevant_passages=len(relevant),
        same_relevant_passages=int(np.count_nonzero(same[relevant])),
        train_queries=len(trained),
        train_positives=len(positives),
        examples=tuple(pairs[:EXAMPLES]),
    )


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


class _Queries(NamedTuple):
    """Queries in the order of their ids."""

    ids: list[str]
    texts: list[str]
    words: list[str]

    @classmethod
    def read(cls, folder: Path, wanted: Iterable[str]) -> _Queries:
        queries = beir.read_queries(folder)
        ids = sorted(wanted)
        texts = [queries[name] for name in ids]
        return cls(ids, texts, [beir.words(text) for text in texts])


def _nearest(test: _Queries, train: _Queries, near: float, progress: Progress) -> list[Pair]:
    """For each query of the test that has near ones, the nearest; the most similar pair first."""
    pairs = []
    with progress.bar("compare queries", total=len(test.ids), unit="queries") as step:
        for row, found in enumerate(alike(test.words, train.words, near=near)):
            if len(found.rows):
                best = found.similarities.argmax()
                other, similarity = found.rows[best], float(found.similarities[best])
                texts = (test.ids[row], test.texts[row], train.ids[other], train.texts[other])
                pairs.append(Pair(*texts, similarity))
            step(1)
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.test_id))


def _relevant(folder: Path, split: str) -> dict[str, list[str]]:
    """Judged query -> its relevant passages."""
    qrels = beir.read_qrels(folder, split)
    return {query: [key for key in judged if judged[key] > 0] for query, judged in qrels.items()}


def _rows(corpus: Corpus, relevant: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
    """Rows of all relevant passages that are in the corpus, each once, ascending."""
    rows = corpus.rows_of(sorted({name for names in relevant.values() for name in names}))
    return rows[rows >= 0]


def _keys(corpus: Corpus, label: str, progress: Progress) -> NDArray[np.uint64]:
    """The key of each passage's words."""
    keys = [np.zeros(0, np.uint64)]
    with progress.bar(label, total=len(corpus), unit="passages") as step:
        for block in blocks(corpus.texts):
            keys.append(word_keys(block))
            step(len(block))
    return np.concatenate(keys)


def _stand_in(keys: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which keys are known, those of texts without words left out."""
    known = np.unique(known[known != WORDLESS])
    return np.searchsorted(known, keys, "left") < np.searchsorted(known, keys, "right")
