"""Check a data set in BEIR's layout, store it, and hold what is stored against itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ragcun_cli.pipeline.data.sets.beir import (
    SPLITS,
    Qrels,
    read_passages,
    read_queries,
    read_query_metadata,
    read_splits,
    unreachable,
    write_judged,
)
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes, locate, read_lines
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import CORPUS, QRELS, QUERIES

_JUDGEMENTS_AT_ONCE = 100_000
_DOCUMENTS = "a folder of documents: --pairs heading; a folder in BEIR's layout has corpus.jsonl"


@dataclass(frozen=True)
class Counts:
    """The size of a data set."""

    passages: int
    queries: int
    judged: dict[str, int]
    """Split -> queries with a judgement."""

    empty_passages: int = 0
    unknown_judged: int = 0
    """Judgements of passages that are not in the corpus: only published sets may have them."""

    notes: tuple[str, ...] = ()
    """What was harmless in the files."""

    def details(self) -> dict[str, Any]:
        """What the record of a data set remembers of it."""
        return {key: value for key, value in asdict(self).items() if value or key in _ALWAYS}


_ALWAYS = ("passages", "queries", "judged")


def store(source: Path, draft: Path, *, published: bool = False) -> Counts:
    """Check a folder in BEIR's layout, and store it.

    Args:
        source: with corpus.jsonl, queries.jsonl and qrels, each packed by gzip or not.
        draft: where it goes; read as a stream, in bounded memory.
        published: whether others fixed its content, so that judgements of passages that are not
            in the corpus are counted rather than refused.

    Raises:
        DataError: a file is missing or malformed, or a judgement names an unknown id.
    """
    notes = Notes()
    file = locate(source, CORPUS)
    for needed in (file, locate(source, QUERIES)):
        if not needed.is_file():
            what = f"{needed} is " + ("no file" if needed.exists() else "missing")
            raise DataError(what, hint=None if published or needed != file else _DOCUMENTS)
    _note_unread(source, notes)
    queries = read_queries(source, notes)
    splits = read_splits(source, notes)
    for split, qrels in splits.items():
        check_queries(source, split, qrels, queries)
    write_corpus(read_passages(file, notes), draft, source=file, notes=notes)
    metadata = read_query_metadata(source)
    write_judged(draft, queries=queries, splits=splits, metadata=metadata)
    return check(draft, published=published, source=source, notes=notes)


def _note_unread(source: Path, notes: Notes) -> None:
    """Tell of files that look as if they belonged to the set, and are not read."""
    read = {locate(source, name) for name in (CORPUS, QUERIES)}
    read |= {locate(source / QRELS, f"{split}.tsv") for split in SPLITS}
    found = {*source.glob(f"{CORPUS}*"), *source.glob(f"{QUERIES}*")}
    found |= set((source / QRELS).glob("[!.]*"))
    for file in sorted(found - read):
        twice = file.suffix == ".gz" and file.with_suffix("") in read
        why = "as it is there without .gz too" if twice else "as BEIR has no file of that name"
        notes.add(file, f"not read, {why}", once=True)


def check(
    folder: Path,
    *,
    published: bool = False,
    datasets: Path | None = None,
    source: Path | None = None,
    notes: Notes | None = None,
) -> Counts:
    """Read a stored data set, and hold its files against each other.

    Args:
        folder: of the set.
        published: as for `store`.
        datasets: folder of all data sets, where the set does not lie in it yet.
        source: folder that the judgements come from, for messages; none means the set's own.
        notes: what was said of its files before.

    Raises:
        DataError: a file is missing or malformed, or a judgement names an unknown id.
    """
    notes = notes or Notes()
    corpus = Corpus.open(folder, datasets=datasets)
    queries = read_queries(folder)
    splits = read_splits(folder)
    unknown = 0
    for split, qrels in splits.items():
        check_queries(folder, split, qrels, queries)
        missing = unknown_passages(qrels, corpus)
        if lost := unreachable(qrels, corpus):
            what = f"{lost:,} judgements above 0 that no ranking can reach, counted as not found"
            notes.add(folder / QRELS / f"{split}.tsv", what, once=True)
        if missing and not published:
            where = _first_judged(source or folder, split, 1, missing[0])
            raise DataError(f"{where}: corpus id '{missing[0]}' is not in {CORPUS}")
        if missing:
            unknown += len(missing)
            file = folder / QRELS / f"{split}.tsv"
            notes.add(file, f"{len(missing):,} judged passages are not in the corpus", once=True)
    empty = read_record(folder).empty
    if empty:
        notes.add(Path(CORPUS), f"{empty:,} passages have no text, and are kept", once=True)
    return Counts(
        passages=len(corpus),
        queries=len(queries),
        judged={split: len(qrels) for split, qrels in splits.items()},
        empty_passages=empty,
        unknown_judged=unknown,
        notes=tuple(notes.lines()),
    )


def added(counts: Sequence[Counts]) -> Counts:
    """The counts of a data set, of those of its parts."""
    if len(counts) == 1:
        return counts[0]
    judged: Counter[str] = Counter()
    for part in counts:
        judged.update(part.judged)
    return Counts(
        passages=sum(part.passages for part in counts),
        queries=sum(part.queries for part in counts),
        judged=dict(judged),
        empty_passages=sum(part.empty_passages for part in counts),
        unknown_judged=sum(part.unknown_judged for part in counts),
        notes=tuple(dict.fromkeys(note for part in counts for note in part.notes)),
    )


def check_queries(folder: Path, split: str, qrels: Qrels, queries: Mapping[str, str]) -> None:
    """Hold the judgements of a folder's split against the queries.

    Raises:
        DataError: a judged query is not among them.
    """
    for query in qrels:
        if query not in queries:
            where = _first_judged(folder, split, 0, query)
            raise DataError(f"{where}: query id '{query}' is not in {QUERIES}")


def _first_judged(folder: Path, split: str, column: int, name: str) -> str:
    """File and line of the first judgement of a query (column 0) or a passage (column 1)."""
    file = locate(folder / QRELS, f"{split}.tsv")
    rows = ((number, line.split("\t")) for number, line in read_lines(file, Notes()))
    number = next(number for number, fields in rows if fields[column].strip(" ") == name)
    return f"{file}:{number}"


def unknown_passages(qrels: Qrels, corpus: Corpus) -> list[str]:
    """Ids that are judged and are not in the corpus, in the order of the judgements."""
    judged = iter(passage for passages in qrels.values() for passage in passages)
    unknown: list[str] = []
    while ids := list(islice(judged, _JUDGEMENTS_AT_ONCE)):
        unknown += [ids[at] for at in np.flatnonzero(corpus.rows_of(ids) < 0)]
    return unknown
