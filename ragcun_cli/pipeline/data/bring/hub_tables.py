"""Turn a data set's files on the Hub into BEIR's: JSONL, TSV or Parquet, few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.pipeline.data.sets.beir import HEADER
from ragcun_cli.pipeline.data.sets.lines import Notes, id_of, read_lines, read_objects
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError, first_line
from ragcun_cli.spec.paths import CORPUS

if TYPE_CHECKING:
    from pyarrow import parquet

_ROWS_AT_ONCE = 1_000
_BUFFER_BYTES = 1 << 20


def write_qrels(tables: Sequence[Path], target: Path, progress: Progress) -> None:
    """Write judgements, from files of whatever form, as BEIR's TSV.

    Raises:
        DataError: a line is malformed, or a score is not whole.
    """
    notes = Notes()
    with target.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("\t".join(HEADER) + "\n")
        for table in tables:
            for number, row in _judgements(table, notes):
                where = f"{table}:{number}"
                query, passage = (id_of(row.get(key), where, table, notes) for key in HEADER[:2])
                stream.write(f"{query}\t{passage}\t{_whole(row.get(HEADER[2]), where)}\n")
    _tell(notes, progress)


def _tell(notes: Notes, progress: Progress) -> None:
    for line in notes.lines():
        progress.note(line)


def _judgements(table: Path, notes: Notes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if table.suffix == ".parquet":
        return enumerate(chain.from_iterable(_batches(table, HEADER)), 1)
    if ".jsonl" in table.suffixes:
        return read_objects(table, notes)
    return _tabbed(table, notes)


def _tabbed(table: Path, notes: Notes) -> Iterator[tuple[int, Mapping[str, str]]]:
    for count, (number, line) in enumerate(read_lines(table, notes)):
        fields = [field.strip(" ") for field in line.split("\t")]
        if count == 0 and tuple(fields) == HEADER:
            continue
        if len(fields) != len(HEADER):
            raise DataError(f"{table}:{number}: expected {', '.join(HEADER)}, got {line[:80]!r}")
        yield number, dict(zip(HEADER, fields, strict=True))


def _whole(score: object, where: str) -> int:
    with suppress(ValueError):
        if (number := float(str(score))).is_integer():
            return int(number)
    raise DataError(f"{where}: expected a whole score, got {score!r:.80}")


def write_texts(tables: Sequence[Path], target: Path, progress: Progress) -> None:
    """Move a file that is BEIR's own, or write tables out as one.

    Raises:
        DataError: a table cannot be read, or lacks a column.
    """
    if tables[0].suffix != ".parquet":
        tables[0].replace(target.with_name(tables[0].name))
        return
    columns = ("_id", "id", *(("title", "text") if target.name == CORPUS else ("text",)))
    total = sum(_count(table) for table in tables)
    notes = Notes()
    with (
        target.open("w", encoding="utf-8", newline="\n") as stream,
        progress.bar(f"write {target.name}", total=total, unit="rows") as step,
    ):
        for table in tables:
            for batch in _batches(table, columns):
                for row in batch:
                    name = id_of(row.get("_id", row.get("id")), str(table), table, notes)
                    texts = {column: row.get(column) or "" for column in columns[2:]}
                    stream.write(json.dumps({"_id": name, **texts}, ensure_ascii=False) + "\n")
                step(len(batch))
    _tell(notes, progress)


def _batches(table: Path, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows, few at a time, as memory may be small; any column but the last may be missing."""
    with _opened(table) as opened:
        there = opened.schema_arrow.names
        if columns[-1] not in there:
            raise DataError(f"{table} has no column '{columns[-1]}', only: {', '.join(there)}")
        wanted = [column for column in columns if column in there]
        for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
            yield batch.to_pylist()


def _count(table: Path) -> int:
    with _opened(table) as opened:
        return int(opened.metadata.num_rows)


@contextmanager
def _opened(table: Path) -> Iterator[parquet.ParquetFile]:
    from pyarrow import ArrowException, parquet

    try:
        # Without these two, all of the file comes to lie in memory.
        with parquet.ParquetFile(table, pre_buffer=False, buffer_size=_BUFFER_BYTES) as opened:
            yield opened
    except (ArrowException, OSError) as error:
        raise DataError(f"{table} cannot be read: {first_line(error)}") from error
