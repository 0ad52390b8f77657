"""The postings of a corpus on disk: made in passes over its terms, read memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ragcun_cli.core.folders import whole_folder
from ragcun_cli.core.search.bm25 import Floats, Ints, Weights
from ragcun_cli.core.search.postings import add_postings, count_occurrences
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.machine.stops import locked
from ragcun_cli.pipeline.search.lexical.terms import Terms
from ragcun_cli.spec.manifest import write_atomically
from ragcun_cli.spec.marks import check_marked, is_marked, mark, read_marked
from ragcun_cli.spec.mining_config import MiningConfig

FORMAT = 2
"""Raised when the files of an index, or the numbers in them, change."""

PASSAGES_AT_ONCE = 10_000
POSTINGS_AT_ONCE = 2**24
"""Made in memory at once, with 40 bytes each."""

_RECORD, _TERMS, _TOKENS = "index.json", "terms.txt", "tokens.i32"
_STARTS, _ABSENT, _ROWS, _SCORES = "starts.npy", "absent.npy", "rows.i32", "scores.f32"
_FILES = (_TERMS, _STARTS, _ABSENT, _ROWS, _SCORES, _RECORD)


def recipe(corpus_digest: str, config: MiningConfig) -> dict[str, Any]:
    """All that the files of an index depend on; its digest names the folder that keeps it."""
    settings = {"method", "k1", "b", "stemmer", "stopwords"}
    return {"format": FORMAT, "corpus": corpus_digest, **config.model_dump(include=settings)}


@dataclass(frozen=True)
class Postings:
    """An index that is open: arrays as ``core.postings`` describes them, memory-mapped."""

    terms: Terms
    passages: int
    starts: NDArray[np.int64]
    rows: Ints
    scores: Floats
    absent: Floats

    @classmethod
    def open(cls, folder: Path, config: MiningConfig) -> Postings:
        """Those in a folder, which may go away once it is open.

        Raises:
            WorkspaceError: a file is not what was written.
        """
        check_marked(*(folder / name for name in _FILES))
        known = (folder / _TERMS).read_text(encoding="utf-8").split("\n")[:-1]
        starts, absent = np.load(folder / _STARTS), np.load(folder / _ABSENT)
        rows, scores = _mapped(folder / _ROWS, np.int32), _mapped(folder / _SCORES, np.float32)
        passages = _read_record(folder)["passages"]
        return cls(Terms(config, known), passages, starts, rows, scores, absent)


def _mapped(file: Path, dtype: DTypeLike) -> NDArray[Any]:
    count = file.stat().st_size // np.dtype(dtype).itemsize
    if count == 0:  # which cannot be mapped
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(file, dtype, mode="r", shape=(count,)))


def open_or_build(
    folder: Path, corpus: Corpus, config: MiningConfig, *, digest: str, progress: Progress
) -> Postings:
    """The postings of a corpus from a folder, made first if they are not there.

    A build that is killed leaves nothing but a hidden folder beside, which the next one removes.

    Args:
        folder: of this index alone.
        corpus: its passages.
        config: which BM25, of which terms.
        digest: of the corpus.
        progress: told of the build.

    Raises:
        WorkspaceError: what is there was changed by others.
    """
    wanted = {**recipe(digest, config), "passages": len(corpus)}
    if _read_record(folder) != wanted:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{folder.name}.lock")):
            if _read_record(folder) != wanted:  # another process may have made it meanwhile
                with whole_folder(folder) as draft:
                    build_index(draft, corpus, config, digest=digest, progress=progress)
    return Postings.open(folder, config)


def _read_record(folder: Path) -> dict[str, Any]:
    file = folder / _RECORD
    record: dict[str, Any] = json.loads(read_marked(file)) if is_marked(file) else {}
    return record


def build_index(
    folder: Path, corpus: Corpus, config: MiningConfig, *, digest: str, progress: Progress
) -> None:
    """Write the postings of a corpus into an empty folder.

    The first pass writes the terms of all passages to disk and counts them; each later one makes
    the postings of as many terms as fit ``POSTINGS_AT_ONCE``. Memory holds those, every term once
    and 4 bytes a passage.
    """
    terms = Terms(config)
    lengths = _write_tokens(folder / _TOKENS, terms, corpus, progress)
    names = "".join(f"{term}\n" for term in terms.numbers)
    (folder / _TERMS).write_text(names, encoding="utf-8", newline="\n")
    occurrences = _occurrences(folder / _TOKENS, lengths, len(terms.numbers))
    weights = Weights.of(
        config.method,
        config.k1,
        config.b,
        passages=len(lengths),
        mean_length=float(lengths.mean()) if len(lengths) else 0.0,
        occurrences=occurrences,
    )
    starts = np.concatenate([[0], np.cumsum(occurrences, dtype=np.int64)])
    np.save(folder / _STARTS, starts)
    np.save(folder / _ABSENT, weights.absent)
    _write_postings(folder, weights, starts, lengths, progress)
    (folder / _TOKENS).unlink()
    record = {**recipe(digest, config), "passages": len(lengths)}
    write_atomically(folder / _RECORD, json.dumps(record, indent=1) + "\n")
    mark(*(folder / name for name in _FILES))


def _write_tokens(file: Path, terms: Terms, corpus: Corpus, progress: Progress) -> Ints:
    lengths = [np.zeros(0, np.int32)]
    bar = progress.bar("BM25 terms", total=len(corpus), unit="passages")
    with file.open("wb") as stream, bar as advance:
        for start in range(0, len(corpus), PASSAGES_AT_ONCE):
            tokens, block = terms.add(corpus.texts[start : start + PASSAGES_AT_ONCE])
            tokens.tofile(stream)
            lengths.append(block)
            advance(len(block))
    return np.concatenate(lengths)


def _blocks(file: Path, lengths: Ints) -> Iterator[tuple[Ints, Ints, int]]:
    """Terms of some passages, their lengths, and the row of the first, until all have come."""
    with file.open("rb") as stream:
        for first in range(0, len(lengths), PASSAGES_AT_ONCE):
            block = lengths[first : first + PASSAGES_AT_ONCE]
            yield np.fromfile(stream, np.int32, int(block.sum())), block, first


def _occurrences(file: Path, lengths: Ints, terms: int) -> Ints:
    """``(terms,)`` how many passages each term occurs in."""
    found, seen = np.zeros(terms, np.int32), np.full(terms, -1, np.int32)
    for tokens, block, first in _blocks(file, lengths):
        count_occurrences(tokens, block, first, seen, found)
    return found


def _write_postings(
    folder: Path, weights: Weights, starts: NDArray[np.int64], lengths: Ints, progress: Progress
) -> None:
    bar = progress.bar("BM25 postings", total=int(starts[-1]), unit="postings")
    rows_file, scores_file = folder / _ROWS, folder / _SCORES
    with rows_file.open("wb") as rows_out, scores_file.open("wb") as scores_out, bar as advance:
        for first, last in _term_ranges(starts):
            begins = starts[first:last] - starts[first]
            rows = np.empty(starts[last] - starts[first], np.int32)
            counts = np.empty(len(rows), np.float32)
            filled = np.zeros(last - first, np.int32)
            for tokens, block, row in _blocks(folder / _TOKENS, lengths):
                add_postings(tokens, block, row, first, begins, filled, rows, counts)
            terms = np.repeat(np.arange(first, last, dtype=np.int32), filled)
            rows.tofile(rows_out)
            weights.scores(terms, counts, lengths[rows]).tofile(scores_out)
            advance(len(rows))


def _term_ranges(starts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First and last of the terms, the last excluded, whose postings are made at once."""
    first = 0
    while first < len(starts) - 1:
        full = int(np.searchsorted(starts, starts[first] + POSTINGS_AT_ONCE, "right")) - 1
        last = max(full, first + 1)
        yield first, last
        first = last
