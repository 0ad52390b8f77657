"""Read data sets in BEIR's layout, check them, store them, and write them back in that layout.

``corpus.jsonl`` with ``_id``, ``title`` and ``text``; ``queries.jsonl`` with ``_id`` and ``text``;
``qrels/{train,dev,test}.tsv`` with the header ``query-id  corpus-id  score``. Stored, a set has the
same queries and judgements, and its passages in Arrow (``corpus.py``).
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ragcun_cli.pipeline.data.corpus import Corpus, Passage, read_record
from ragcun_cli.pipeline.data.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.lines import (
    Notes,
    id_of,
    locate,
    read_lines,
    read_objects,
    show,
    text_of,
)
from ragcun_cli.spec.errors import DataError, WorkspaceError
from ragcun_cli.spec.paths import CORPUS, CORPUS_RECORD, QRELS, QUERIES

SPLITS = ("train", "dev", "test")
HEADER = ("query-id", "corpus-id", "score")
_JUDGEMENTS_AT_ONCE = 100_000

Qrels = dict[str, dict[str, int]]
"""Query id -> passage id -> grade."""


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


def parts(folder: Path) -> list[Path]:
    """The stored sets that a data set consists of: itself, or those in its folder, by name."""
    if (folder / CORPUS_RECORD).is_file():
        return [folder]
    inside = sorted(file.parent.parent for file in folder.glob(f"[!.]*/{CORPUS_RECORD}"))
    return inside or [folder]


def words(text: str) -> str:
    """A text without case, punctuation and spacing: texts with the same words are the same."""
    return re.sub(r"\W+", " ", text.casefold()).strip()


def read_passages(file: Path, notes: Notes) -> Iterator[Passage]:
    """The passages of a corpus.jsonl, in its order.

    Raises:
        DataError: a line is malformed.
    """
    for number, row in read_objects(file, notes):
        where = f"{file}:{number}"
        identifier = id_of(row.get("_id"), where, file, notes)
        if len(row) > len({"_id", "title", "text"} & row.keys()):
            notes.add(file, 'holds more than "_id", "title" and "text", left out', once=True)
        title = "" if row.get("title") is None else _text(row, "title", where)
        text = _text(row, "text", where)
        yield Passage(identifier, text_of(title, file, notes), text_of(text, file, notes), number)


def read_queries(folder: Path, notes: Notes | None = None) -> dict[str, str]:
    """Query id -> text, in the order of the file.

    Raises:
        DataError: a line is malformed, repeats an id with other words or has no text.
    """
    notes = notes or Notes()
    file = locate(folder, QUERIES)
    queries: dict[str, str] = {}
    for number, row in read_objects(file, notes):
        where = f"{file}:{number}"
        identifier = id_of(row.get("_id"), where, file, notes)
        text = text_of(_text(row, "text", where), file, notes)
        if not text.strip():
            raise DataError(f"{where}: query '{identifier}' has no text")
        if queries.get(identifier, text) != text:
            raise DataError(f"{where}: query id '{identifier}' stands in the file twice")
        if identifier in queries:
            notes.add(file, "a query that stands twice with the same words, kept once")
        queries[identifier] = text
    if not queries:
        raise DataError(f"{file}: there are no queries")
    return queries


def read_qrels(folder: Path, split: str, notes: Notes | None = None) -> Qrels:
    """The judgements of one split, in the order of the file.

    Raises:
        DataError: the split is absent, or a line is malformed or judges a pair another way.
    """
    notes = notes or Notes()
    file = locate(folder / QRELS, f"{split}.tsv")
    qrels: Qrels = {}
    first = True
    for number, line in read_lines(file, notes):
        fields = [field.strip() for field in line.split("\t")]
        begins, first = first, False
        if begins and tuple(fields) == HEADER:
            continue
        if len(fields) != 3 or not re.fullmatch("-?[0-9]{1,9}", fields[2]) or not all(fields):
            raise DataError(
                f"{file}:{number}: expected query-id, corpus-id and a whole score, parted by "
                f"tabs, got {line[:80]!r}",
                hint=show(file, number, line),
            )
        if begins:
            notes.add(file, "has no header; its first line was read as a judgement", once=True)
        query, passage, grade = fields
        judged = qrels.setdefault(query, {})
        if judged.get(passage, int(grade)) != int(grade):
            raise DataError(f"{file}:{number}: '{query}' and '{passage}' are judged twice")
        if passage in judged:
            notes.add(file, "a judgement that stands twice, kept once")
        judged[passage] = int(grade)
    if not qrels:
        raise DataError(f"{file}: no judgements")
    return qrels


def read_splits(folder: Path, notes: Notes | None = None) -> dict[str, Qrels]:
    """The judgements of all splits there are.

    Raises:
        DataError: there are none, or one is malformed.
    """
    found = [split for split in SPLITS if locate(folder / QRELS, f"{split}.tsv").exists()]
    if not found:
        names = ", ".join(f"{split}.tsv" for split in SPLITS)
        raise DataError(f"{folder / QRELS} holds none of {names}")
    return {split: read_qrels(folder, split, notes) for split in found}


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
            raise DataError(f"{needed} is " + ("no file" if needed.exists() else "missing"))
    _note_unread(source, notes)
    queries = read_queries(source, notes)
    splits = read_splits(source, notes)
    for split, qrels in splits.items():
        check_queries(source, split, qrels, queries)
    write_corpus(read_passages(file, notes), draft, source=file, notes=notes)
    write_judged(draft, queries=queries, splits=splits)
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
    number = next(number for number, fields in rows if fields[column].strip() == name)
    return f"{file}:{number}"


def unknown_passages(qrels: Qrels, corpus: Corpus) -> list[str]:
    """Ids that are judged and are not in the corpus, in the order of the judgements."""
    judged = iter(passage for passages in qrels.values() for passage in passages)
    unknown: list[str] = []
    while ids := list(islice(judged, _JUDGEMENTS_AT_ONCE)):
        unknown += [ids[at] for at in np.flatnonzero(corpus.rows_of(ids) < 0)]
    return unknown


def write(
    folder: Path,
    *,
    corpus: Mapping[str, str],
    queries: Mapping[str, str],
    qrels: Mapping[str, Qrels],
) -> None:
    """Store a small data set; the same content in any order gives the same bytes."""
    passages = (Passage(name, "", text) for name, text in corpus.items())
    write_corpus(passages, folder, source=folder / CORPUS, notes=Notes())
    splits = {
        split: {query: dict(sorted(judged[query].items())) for query in sorted(judged)}
        for split, judged in qrels.items()
    }
    write_judged(folder, queries={name: queries[name] for name in sorted(queries)}, splits=splits)


def write_judged(folder: Path, *, queries: Mapping[str, str], splits: Mapping[str, Qrels]) -> None:
    """Write queries and judgements in BEIR's layout, in the order they are given."""
    rows = ({"_id": name, "text": text} for name, text in queries.items())
    _write_jsonl(folder / QUERIES, rows)
    (folder / QRELS).mkdir(exist_ok=True)
    for split, qrels in splits.items():
        file = folder / QRELS / f"{split}.tsv"
        with file.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write("\t".join(HEADER) + "\n")
            for query, judged in qrels.items():
                stream.writelines(f"{query}\t{key}\t{grade}\n" for key, grade in judged.items())


def export(folder: Path, target: Path) -> None:
    """Write a stored data set in BEIR's layout, for other tools; one of parts as a folder each.

    Raises:
        DataError: the target exists and is no empty folder.
        WorkspaceError: it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists and is not an empty folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            draft = Path(scratch) / "draft"
            for part in parts(folder):
                _export(part, draft if part == folder else draft / part.name)
            draft.replace(target)
    except OSError as error:
        reason = error.strerror or error
        raise WorkspaceError(
            f"{target} cannot be written: {reason}",
            hint=shlex.join(["df", "-h", str(target.parent)]),
        ) from error


def _export(folder: Path, target: Path) -> None:
    target.mkdir(parents=True)
    rows = ({"_id": p.id, "title": p.title, "text": p.text} for p in Corpus.open(folder))
    _write_jsonl(target / CORPUS, rows)
    write_judged(target, queries=read_queries(folder), splits=read_splits(folder))


def _write_jsonl(file: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f'{where}: "{key}" is not a text' if key in row else f'{where}: no "{key}"')
    return value
