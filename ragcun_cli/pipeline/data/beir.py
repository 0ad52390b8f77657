"""Read, check and write data sets in BEIR's layout.

``corpus.jsonl`` with ``_id``, ``title`` and ``text``; ``queries.jsonl`` with ``_id`` and ``text``;
``qrels/{train,dev,test}.tsv`` with the header ``query-id  corpus-id  score``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import CORPUS, QRELS, QUERIES

SPLITS = ("train", "dev", "test")
HEADER = ("query-id", "corpus-id", "score")

Qrels = dict[str, dict[str, int]]
"""Query id -> passage id -> grade."""


@dataclass(frozen=True)
class Corpus:
    """Passages in the order of their ids, which is the order ties are broken in."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        """Number of passages."""
        return len(self.ids)


@dataclass(frozen=True)
class Counts:
    """The size of a data set."""

    passages: int
    queries: int
    judged: dict[str, int]
    """Split -> queries with a judgement."""


def read_corpus(folder: Path) -> Corpus:
    """All passages; title and text are joined by a space, as BEIR does.

    Raises:
        DataError: a line is malformed or repeats an id, or there are no passages.
    """
    texts: dict[str, str] = {}
    for where, identifier, row in _rows(folder / CORPUS):
        if identifier in texts:
            raise DataError(f"{where}: passage id '{identifier}' stands in the file twice")
        texts[identifier] = f"{_text(row, 'title', where)} {_text(row, 'text', where)}".strip()
    if not texts:
        raise DataError(f"{folder / CORPUS}: the corpus is empty")
    ids = tuple(sorted(texts))
    return Corpus(ids=ids, texts=tuple(texts[identifier] for identifier in ids))


def words(text: str) -> str:
    """A text without case, punctuation and spacing: texts with the same words are the same."""
    return re.sub(r"\W+", " ", text.casefold()).strip()


def read_queries(folder: Path) -> dict[str, str]:
    """Query id -> text, in the order of the file.

    Raises:
        DataError: a line is malformed, repeats an id or has no text.
    """
    queries: dict[str, str] = {}
    for where, identifier, row in _rows(folder / QUERIES):
        if identifier in queries:
            raise DataError(f"{where}: query id '{identifier}' stands in the file twice")
        queries[identifier] = _text(row, "text", where)
        if not queries[identifier].strip():
            raise DataError(f"{where}: query '{identifier}' has no text")
    return queries


def read_qrels(folder: Path, split: str) -> Qrels:
    """The judgements of one split, in the order of the file.

    Raises:
        DataError: the split is absent, or a line is malformed or repeats a pair.
    """
    file = folder / QRELS / f"{split}.tsv"
    qrels: Qrels = {}
    for number, line in _lines(file):
        fields = tuple(line.split("\t"))
        if number == 1 and fields == HEADER:
            continue
        if len(fields) != 3 or not re.fullmatch("-?[0-9]+", fields[2]):
            raise DataError(
                f"{file}:{number}: expected query-id, corpus-id and a whole score, parted by "
                f"tabs, got {line[:80]!r}"
            )
        query, passage, grade = fields
        if passage in qrels.setdefault(query, {}):
            raise DataError(f"{file}:{number}: '{query}' and '{passage}' are judged twice")
        qrels[query][passage] = int(grade)
    if not qrels:
        raise DataError(f"{file}: no judgements")
    return qrels


def check(folder: Path) -> Counts:
    """Read a whole data set and hold its files against each other.

    Raises:
        DataError: a file is missing or malformed, or a judgement names an unknown id.
    """
    passages = set(read_corpus(folder).ids)
    queries = read_queries(folder)
    splits = [split for split in SPLITS if (folder / QRELS / f"{split}.tsv").is_file()]
    if not splits:
        names = ", ".join(f"{split}.tsv" for split in SPLITS)
        raise DataError(f"{folder / QRELS} holds none of {names}")
    judged = {}
    for split in splits:
        qrels = read_qrels(folder, split)
        _check_ids(qrels, passages, queries, folder / QRELS / f"{split}.tsv")
        judged[split] = len(qrels)
    return Counts(passages=len(passages), queries=len(queries), judged=judged)


def _check_ids(qrels: Qrels, passages: set[str], queries: Mapping[str, str], file: Path) -> None:
    for query, judgements in qrels.items():
        if query not in queries:
            raise DataError(f"{file}: query id '{query}' is not in {QUERIES}")
        for passage in judgements:
            if passage not in passages:
                raise DataError(f"{file}: corpus id '{passage}' is not in {CORPUS}")


def write(
    folder: Path,
    *,
    corpus: Mapping[str, str],
    queries: Mapping[str, str],
    qrels: Mapping[str, Qrels],
) -> None:
    """Write a data set; the same content gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    passages = ({"_id": key, "title": "", "text": corpus[key]} for key in sorted(corpus))
    _write_jsonl(folder / CORPUS, passages)
    _write_jsonl(folder / QUERIES, ({"_id": key, "text": queries[key]} for key in sorted(queries)))
    (folder / QRELS).mkdir(exist_ok=True)
    for split, judgements in qrels.items():
        lines = ["\t".join(HEADER)]
        for query in sorted(judgements):
            lines += [
                f"{query}\t{key}\t{grade}" for key, grade in sorted(judgements[query].items())
            ]
        text = "".join(f"{line}\n" for line in lines)
        (folder / QRELS / f"{split}.tsv").write_text(text, encoding="utf-8", newline="\n")


def _write_jsonl(file: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(file: Path) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    for number, line in _lines(file):
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
        if not isinstance(row, dict) or not isinstance(row.get("_id"), str) or not row["_id"]:
            raise DataError(f'{where}: expected an object with a text "_id", got {line[:80]!r}')
        yield where, row["_id"], row


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except FileNotFoundError:
        raise DataError(f"{file} is missing") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error.reason}") from error


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    value = row.get(key, "" if key == "title" else None)
    if not isinstance(value, str):
        raise DataError(f'{where}: "{key}" is not a text')
    return value
