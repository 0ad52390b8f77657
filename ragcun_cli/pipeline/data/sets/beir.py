"""Read data sets in BEIR's layout, and write them: as ragcun stores them, or in that layout.

``corpus.jsonl`` with ``_id``, ``title`` and ``text``; ``queries.jsonl`` with ``_id`` and ``text``;
``qrels/{train,dev,test}.tsv`` with the header ``query-id  corpus-id  score``. Stored, a set has the
same queries and judgements, and its passages in Arrow (``corpus.py``).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ragcun_cli.core.words import words as words
from ragcun_cli.pipeline.data.sets.corpus import Corpus, Passage
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import (
    Notes,
    id_of,
    locate,
    quoted,
    read_lines,
    read_objects,
    text_of,
)
from ragcun_cli.spec.errors import DataError, WorkspaceError
from ragcun_cli.spec.paths import CORPUS, CORPUS_RECORD, QRELS, QUERIES

SPLITS = ("train", "dev", "test")
HEADER = ("query-id", "corpus-id", "score")

Qrels = dict[str, dict[str, int]]
"""Query id -> passage id -> grade."""


def parts(folder: Path) -> list[Path]:
    """The stored sets that a data set consists of: itself, or those in its folder, by name."""
    if (folder / CORPUS_RECORD).is_file():
        return [folder]
    inside = sorted(file.parent.parent for file in folder.glob(f"[!.]*/{CORPUS_RECORD}"))
    return inside or [folder]


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
        title, text = (text_of(found, file, notes, number) for found in (title, text))
        yield Passage(identifier, title, text, number)


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
        text = text_of(_text(row, "text", where), file, notes, number)
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


Metadata = Mapping[str, Mapping[str, Any]]
"""Query id -> name -> a short text or a number."""

LONGEST_METADATA = 100
"""Letters of a text that can still name a group of queries."""


def read_query_metadata(folder: Path) -> Metadata:
    """What the lines of queries say beside their texts, in ``metadata`` or beside it.

    Queries without any are left out, and so is what is neither a number nor a short text.

    Raises:
        DataError: a line is no object.
    """
    found = {}
    for _, row in read_objects(locate(folder, QUERIES), Notes()):
        inside = row.get("metadata")
        values = {**row, **(inside if isinstance(inside, dict) else {})}
        short = {
            key: value
            for key, value in values.items()
            if key not in ("_id", "text", "metadata")
            and (
                isinstance(value, bool | int | float)
                or (isinstance(value, str) and 0 < len(value) <= LONGEST_METADATA)
            )
        }
        if short:
            found[str(row.get("_id"))] = short
    return found


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
        fields = [field.strip(" ") for field in line.split("\t")]
        begins, first = first, False
        if begins and tuple(fields) == HEADER:
            continue
        if len(fields) != 3 or not re.fullmatch("-?[0-9]{1,9}", fields[2]) or not all(fields):
            raise DataError(
                f"{file}:{number}: expected query-id, corpus-id and a whole score, parted by "
                f"tabs, got {line[:80]!r}",
                hint=quoted(file, number, line),
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


def unreachable(qrels: Qrels, corpus: Corpus) -> int:
    """How many judgements above 0 no ranking can reach, which metrics count as not found.

    Their passage is not in the corpus, or has the query's own id and is left out.
    """
    pairs = [(q, p) for q, judged in qrels.items() for p, grade in judged.items() if grade > 0]
    rows = corpus.rows_of([passage for _, passage in pairs])
    return sum(row < 0 or q == p for row, (q, p) in zip(rows.tolist(), pairs, strict=True))


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


def write_set(
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


def write_judged(
    folder: Path,
    *,
    queries: Mapping[str, str],
    splits: Mapping[str, Qrels],
    metadata: Metadata | None = None,
) -> None:
    """Write queries and judgements in BEIR's layout, in the order they are given."""
    about = {name: {"metadata": found} for name, found in (metadata or {}).items()}
    rows = ({"_id": name, "text": text, **about.get(name, {})} for name, text in queries.items())
    _write_jsonl(folder / QUERIES, rows)
    (folder / QRELS).mkdir(exist_ok=True)
    for split, qrels in splits.items():
        file = folder / QRELS / f"{split}.tsv"
        with file.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write("\t".join(HEADER) + "\n")
            for query, judged in qrels.items():
                stream.writelines(f"{query}\t{key}\t{grade}\n" for key, grade in judged.items())


def export_set(folder: Path, target: Path) -> None:
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
    queries, metadata = read_queries(folder), read_query_metadata(folder)
    write_judged(target, queries=queries, splits=read_splits(folder), metadata=metadata)


def _write_jsonl(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f'{where}: "{key}" is not a text' if key in row else f'{where}: no "{key}"')
    return value
