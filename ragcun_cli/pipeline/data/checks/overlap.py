"""What of a test stands in the data that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.jaccard import alike
from ragcun_cli.pipeline.data.checks.stats import WORDLESS, blocks, word_keys
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Progress

EXAMPLES = 5

NEAR = 0.8
"""Jaccard similarity of two texts' sets of words from which on they count as nearly the same."""


@dataclass(frozen=True)
class NearPair:
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

    examples: tuple[NearPair, ...]
    """Pairs of near queries, at most one for each query of the test: the most similar first, then
    by id."""


def overlap(
    test_folder: Path, split: str, train_folder: Path, *, progress: Progress, near: float = NEAR
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


def _nearest(test: _Queries, train: _Queries, near: float, progress: Progress) -> list[NearPair]:
    """For each query of the test that has near ones, the nearest; the most similar pair first."""
    pairs = []
    with progress.bar("compare queries", total=len(test.ids), unit="queries") as step:
        for row, found in enumerate(alike(test.words, train.words, near=near)):
            if len(found.rows):
                best = found.similarities.argmax()
                other, similarity = found.rows[best], float(found.similarities[best])
                texts = (test.ids[row], test.texts[row], train.ids[other], train.texts[other])
                pairs.append(NearPair(*texts, similarity))
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
