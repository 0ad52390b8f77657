"""What a data set looks like: how long its texts are, which stand twice, how it is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.corpus import BATCH_ROWS, Corpus
from ragcun_cli.pipeline.machine.progress import Advance, Progress

WORDLESS = 0
"""The key of a text without words, which is no text's double."""


@dataclass(frozen=True)
class Lengths:
    """How long texts are; percentiles are interpolated between the two nearest."""

    mean: float
    median: float
    percentile_95: float
    max: int


@dataclass(frozen=True)
class TextStatistics:
    """Passages, each with its title, or queries."""

    count: int
    words: Lengths
    """Parted by white space."""

    characters: Lengths
    empty: int
    """Texts of length 0."""

    duplicates: int
    """Texts with the words (`beir.words`) of an earlier one; those without any are none."""

    duplicate_groups: int
    """Different texts that stand more than once."""


@dataclass(frozen=True)
class CountPerQuery:
    """How many there are of something for each query."""

    mean: float
    min: int
    max: int


@dataclass(frozen=True)
class SplitStatistics:
    """The judgements of one split; relevant is what has a grade above 0."""

    queries: int
    pairs: int
    relevant_pairs: int
    pairs_per_query: CountPerQuery
    relevant_per_query: CountPerQuery
    queries_without_relevant: int
    grades: dict[str, int]
    """Grade -> pairs, from the lowest grade; a text, as JSON's keys are."""

    unknown_judged: int
    """Judgements of passages that are not in the corpus."""


@dataclass(frozen=True)
class SetStatistics:
    """A stored data set."""

    passages: TextStatistics
    queries: TextStatistics
    splits: dict[str, SplitStatistics]


def describe(folder: Path, *, progress: Progress) -> SetStatistics:
    """Counts and lengths of a stored set, exact; passages are read as a stream.

    Memory holds 16 bytes a passage, and twice that for a moment. Duplicates are found by 64-bit
    digests: among 10 million passages the chance of a wrong one is below 1 in 100,000.

    Raises:
        DataError: a file is missing or malformed, or the folder is no stored set; one that
            consists of several (`beir.parts`) is described part by part.
    """
    corpus = Corpus.open(folder)
    queries = beir.read_queries(folder)
    splits = beir.read_splits(folder)
    with progress.bar("describe", total=len(corpus) + len(queries), unit="texts") as step:
        return SetStatistics(
            passages=_of_texts(corpus.texts, len(corpus), step),
            queries=_of_texts(queries.values(), len(queries), step),
            splits={split: _of_split(qrels, corpus) for split, qrels in splits.items()},
        )


def some_texts(folder: Path, count: int) -> dict[str, list[str]]:
    """Passages and queries of a stored set, so many at most of each, evenly spaced."""
    queries = list(beir.read_queries(folder).values())
    found = {"passages": Corpus.open(folder).texts, "queries": queries}
    return {kind: list(texts[:: -(-len(texts) // count)]) for kind, texts in found.items()}


def word_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """A 64-bit digest of each text's words, equal where `beir.words` are; WORDLESS for none."""
    found = (beir.words(text).encode() for text in texts)
    digests = (blake2b(words, digest_size=8).digest() if words else bytes(8) for words in found)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, as many at once as a corpus is read."""
    rest = iter(texts)
    while block := list(islice(rest, BATCH_ROWS)):
        yield block


class _Measured(NamedTuple):
    """One number a text."""

    words: NDArray[np.int32]
    characters: NDArray[np.int32]
    keys: NDArray[np.uint64]


def _of_texts(texts: Iterable[str], count: int, step: Advance) -> TextStatistics:
    measured = _measure(texts, count, step)
    keys = np.sort(measured.keys[measured.keys != WORDLESS])
    repeated = keys[1:][keys[1:] == keys[:-1]]
    return TextStatistics(
        count=count,
        words=_lengths(measured.words),
        characters=_lengths(measured.characters),
        empty=int(np.count_nonzero(measured.characters == 0)),
        duplicates=len(repeated),
        duplicate_groups=len(np.unique(repeated)),
    )


def _measure(texts: Iterable[str], count: int, step: Advance) -> _Measured:
    measured = _Measured(
        np.zeros(count, np.int32), np.zeros(count, np.int32), np.zeros(count, np.uint64)
    )
    first = 0
    for block in blocks(texts):
        here = slice(first, first + len(block))
        measured.words[here] = [len(text.split()) for text in block]
        measured.characters[here] = [len(text) for text in block]
        measured.keys[here] = word_keys(block)
        first += len(block)
        step(len(block))
    return measured


def _lengths(counts: NDArray[np.int32]) -> Lengths:
    median, percentile_95 = np.percentile(counts, [50, 95])
    return Lengths(float(counts.mean()), float(median), float(percentile_95), int(counts.max()))


def _of_split(qrels: beir.Qrels, corpus: Corpus) -> SplitStatistics:
    relevant = [sum(grade > 0 for grade in judged.values()) for judged in qrels.values()]
    grades = Counter(grade for judged in qrels.values() for grade in judged.values())
    return SplitStatistics(
        queries=len(qrels),
        pairs=grades.total(),
        relevant_pairs=sum(relevant),
        pairs_per_query=_spread([len(judged) for judged in qrels.values()]),
        relevant_per_query=_spread(relevant),
        queries_without_relevant=relevant.count(0),
        grades={str(grade): grades[grade] for grade in sorted(grades)},
        unknown_judged=len(storing.unknown_passages(qrels, corpus)),
    )


def _spread(counts: Sequence[int]) -> CountPerQuery:
    return CountPerQuery(sum(counts) / len(counts), min(counts), max(counts))
