"""Write the passages of a data set: an external merge sort by id, in bounded memory."""

from __future__ import annotations

import hashlib
import heapq
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from ragcun_cli.pipeline.data.sets.corpus import BATCH_ROWS, SCHEMA, Passage, content_bytes
from ragcun_cli.pipeline.data.sets.lines import Notes
from ragcun_cli.pipeline.data.sets.records import Contents
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import replaced
from ragcun_cli.spec.paths import PASSAGES, PASSAGES_FOLDER

RUN_CHARACTERS = 64_000_000
"""Sorted in memory at once; about 200 MB with all that Python adds."""

_OVERHEAD = 100
_BATCH_CHARACTERS = 16_000_000
_RUN_BATCH_CHARACTERS = 500_000


def write_corpus(
    passages: Iterable[Passage], folder: Path, *, source: Path, notes: Notes
) -> Contents:
    """Store passages that come in any order; memory holds a bounded part of them.

    A passage that comes twice with the same words is kept once, and noted.

    Args:
        passages: any number.
        folder: of the data set; what is stored depends on the passages and not on their order.
        source: where they are read, for messages.
        notes: told of passages that come twice.

    Raises:
        DataError: two passages with one id and other words, or none at all.
    """
    (folder / PASSAGES_FOLDER).mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix=".runs-", dir=folder) as scratch:
        runs = _sorted_runs(passages)
        first = next(runs)
        rest = [_write_run(run, Path(scratch) / f"{n}.arrow") for n, run in enumerate(runs)]
        merged = heapq.merge(first, *map(_read_run, rest), key=itemgetter(0))
        record = write_passages(_each_once(merged, source, notes), folder / PASSAGES)
    if not record.passages:
        raise DataError(f"{source}: the corpus is empty")
    record.write(folder)
    return record


def _sorted_runs(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    run: list[Passage] = []
    characters = 0
    for passage in passages:
        run.append(passage)
        characters += len(passage.title) + len(passage.text) + _OVERHEAD
        if characters > RUN_CHARACTERS:
            yield sorted(run, key=itemgetter(0))
            run, characters = [], 0
    yield sorted(run, key=itemgetter(0))


def _write_run(run: Sequence[Passage], file: Path) -> Path:
    schema = SCHEMA.append(pa.field("line", pa.int64()))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for batch in _batches(run, characters=_RUN_BATCH_CHARACTERS):
            columns = map(pa.array, zip(*batch, strict=True))
            stream.write_batch(pa.record_batch(list(columns), schema))
    return file


def _read_run(file: Path) -> Iterator[Passage]:
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
        for batch in stream:
            yield from map(Passage, *(column.to_pylist() for column in batch.columns))


def _batches(passages: Iterable[Passage], *, characters: int) -> Iterator[list[Passage]]:
    """Parts of at most BATCH_ROWS passages, and of little more than so many characters."""
    batch: list[Passage] = []
    held = 0
    for passage in passages:
        batch.append(passage)
        held += len(passage.title) + len(passage.text)
        if len(batch) == BATCH_ROWS or held > characters:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _each_once(passages: Iterable[Passage], source: Path, notes: Notes) -> Iterator[Passage]:
    last: Passage | None = None
    for passage in passages:
        if last is not None and last.id == passage.id:
            if last[:3] != passage[:3]:
                first, second = sorted((last.line, passage.line))
                raise DataError(
                    f"{source}:{second}: passage id '{passage.id}' stands in the file twice, with "
                    f"other words in line {first}"
                )
            notes.add(source, "a passage that stands twice with the same words, kept once")
            continue
        yield passage
        last = passage


def write_passages(passages: Iterable[Passage], file: Path) -> Contents:
    """Put passages that come in the order of their ids in a file's place; return what they are."""
    digest, count, empty = hashlib.sha256(), 0, 0
    with replaced(file) as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
        for batch in _batches(passages, characters=_BATCH_CHARACTERS):
            ids, titles, texts, _ = zip(*batch, strict=True)
            columns = [pa.array(column, pa.string()) for column in (ids, titles, texts)]
            stream.write_batch(pa.record_batch(columns, SCHEMA))
            digest.update(content_bytes(batch))
            count += len(batch)
            empty += sum(not passage.content for passage in batch)
    return Contents(passages=count, sha256=digest.hexdigest(), empty=empty)
