"""The passages of a data set: an Arrow file on disk, memory-mapped, in the order of their ids.

Written by an external merge sort, so that neither writing nor reading holds a corpus in memory.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from numpy.typing import ArrayLike, NDArray

from ragcun_cli.pipeline.data.lines import Notes
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import write_atomically
from ragcun_cli.spec.paths import CORPUS_RECORD, LENDER, PASSAGES, PASSAGES_FOLDER, ROWS

SCHEMA = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])
BATCH_ROWS = 10_000
RUN_CHARACTERS = 64_000_000
"""Held in memory while a corpus is written; about 200 MB with all that Python adds."""

_OVERHEAD = 100
_BATCH_CHARACTERS = 16_000_000
_RUN_BATCH_CHARACTERS = 500_000


class Passage(NamedTuple):
    """One passage, and the line it was read from."""

    id: str
    title: str
    text: str
    line: int = 0

    @property
    def content(self) -> str:
        """Title and text joined by a space, as BEIR does."""
        return f"{self.title} {self.text}".strip()


class _Column(Sequence[str]):
    """A column of texts that is read when it is asked for."""

    def __init__(self, corpus: Corpus, rows: range | None = None) -> None:
        self._corpus = corpus
        self._rows = range(len(corpus)) if rows is None else rows

    def _read(self, rows: Sequence[int]) -> list[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        rows = self._rows[index]
        return self._read(rows) if isinstance(rows, range) else self._read([rows])[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BATCH_ROWS):
            yield from self[start : start + BATCH_ROWS]


class _Ids(_Column):
    def _read(self, rows: Sequence[int]) -> list[str]:
        return self._corpus.ids_of(rows)


class _Texts(_Column):
    def _read(self, rows: Sequence[int]) -> list[str]:
        return self._corpus.texts_of(rows)


class Corpus:
    """Passages in the order of their ids, which is the order ties are broken in.

    ``ids`` and ``texts`` are read from disk as they are asked for; reading blocks is faster than
    reading one by one.
    """

    def __init__(self, table: Dataset, rows: NDArray[np.integer] | None = None) -> None:
        """Those of a table, or only these rows of it."""
        self._table = table
        self._rows = rows

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Corpus:
        """A small corpus in memory, from ids and texts."""
        ids = sorted(texts)
        columns = {"id": ids, "title": [""] * len(ids), "text": [texts[name] for name in ids]}
        return cls(Dataset(pa.table(columns, schema=SCHEMA)))

    @classmethod
    def open(cls, folder: Path, *, datasets: Path | None = None) -> Corpus:
        """The passages of a data set on disk.

        Args:
            folder: of the data set.
            datasets: folder of all data sets, among them the one that lends passages to this one;
                none means the folder that it lies in.

        Raises:
            DataError: there are none, or they are kept with another data set that is not here or
                has changed.
        """
        read_record(folder)
        parts = [folder / PASSAGES]
        if (folder / LENDER).is_file():
            parts.insert(0, _lender(folder, datasets or folder.parent) / PASSAGES)
        tables = [Dataset.from_file(str(part)) for part in parts if part.is_file()]
        table = concatenate_datasets(tables) if len(tables) > 1 else tables[0]
        rows = np.load(folder / ROWS, mmap_mode="r") if (folder / ROWS).is_file() else None
        return cls(table, rows)

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._table) if self._rows is None else len(self._rows)

    @property
    def ids(self) -> Sequence[str]:
        """Passage ids."""
        return _Ids(self)

    @property
    def texts(self) -> Sequence[str]:
        """Title and text of each passage, joined by a space."""
        return _Texts(self)

    @cached_property
    def _all_ids(self) -> pa.StringArray:
        """All ids in one piece: 100 MB for MS MARCO."""
        ids = self._table.data.table.column("id").combine_chunks()
        return ids if self._rows is None else ids.take(pa.array(self._rows))

    def ids_of(self, rows: ArrayLike) -> list[str]:
        """Ids of some rows."""
        ids: list[str] = self._all_ids.take(pa.array(np.asarray(rows, np.int64))).to_pylist()
        return ids

    def texts_of(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Texts of some rows, in any order."""
        return [passage.content for passage in self.passages_of(rows)]

    def texts_by_id(self, ids: Sequence[str]) -> list[str]:
        """Texts of some passages.

        Raises:
            DataError: there is no passage of that id.
        """
        rows = self.rows_of(ids)
        if len(absent := np.flatnonzero(rows < 0)):
            raise DataError(f"there is no passage '{ids[absent[0]]}' in the corpus")
        return self.texts_of(rows)

    def passages_of(self, rows: Sequence[int] | NDArray[np.integer]) -> list[Passage]:
        """Some passages, title and text apart."""
        if self._rows is not None:
            rows = self._rows[np.asarray(rows, np.int64)]
        found = self._table[rows if isinstance(rows, range) else list(map(int, rows))]
        return list(map(Passage, found["id"], found["title"], found["text"]))

    def __iter__(self) -> Iterator[Passage]:
        for start in range(0, len(self), BATCH_ROWS):
            yield from self.passages_of(range(start, min(start + BATCH_ROWS, len(self))))

    def rows_of(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Row of each id, -1 where there is no such passage: a binary search for all at once."""
        wanted = pa.array(ids, pa.string())
        low = np.zeros(len(wanted), np.int64)
        high = np.full(len(wanted), len(self), np.int64)
        while (searching := low < high).any():
            middle = np.where(searching, (low + high) // 2, 0)
            smaller = _compared(pc.less, self._all_ids, middle, wanted)
            low = np.where(searching & smaller, middle + 1, low)
            high = np.where(searching & ~smaller, middle, high)
        same = _compared(pc.equal, self._all_ids, np.minimum(low, len(self) - 1), wanted)
        return np.where(same & (low < len(self)), low, -1)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> Corpus:
        """Some of the passages, by rows in ascending order."""
        chosen = np.asarray(rows, np.int64)
        return Corpus(self._table, chosen if self._rows is None else self._rows[chosen])


def _compared(
    how: Callable[..., Any], ids: pa.StringArray, rows: NDArray[np.int64], wanted: pa.StringArray
) -> NDArray[np.bool_]:
    return np.asarray(how(ids.take(pa.array(rows)), wanted))


@dataclass(frozen=True)
class CorpusRecord:
    """What the passages of a data set are, whoever keeps them."""

    passages: int
    sha256: str
    """Of ids, titles and texts in the order of ids."""

    empty: int
    """Passages without title and text."""

    def write(self, folder: Path) -> None:
        """Put it into a data set's folder."""
        write_atomically(folder / CORPUS_RECORD, json.dumps(asdict(self), indent=1) + "\n")


def read_record(folder: Path) -> CorpusRecord:
    """What a folder says of its passages.

    Raises:
        DataError: it is no data set that ragcun has stored.
    """
    try:
        return CorpusRecord(**json.loads((folder / CORPUS_RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder} holds no passages that ragcun has stored",
            hint=f"ragcun data import {folder} --name {folder.name}",
        ) from error


def borrow(folder: Path, lender: Path, rows: NDArray[np.integer] | None = None) -> None:
    """Leave passages of a data set with another one that has them too.

    Args:
        folder: of the data set; its own record is in it.
        lender: folder of the other one, which keeps all its passages itself.
        rows: of the lender's passages followed by those in the folder; none means all of them.
    """
    content = {"name": lender.name, "sha256": read_record(lender).sha256}
    write_atomically(folder / LENDER, json.dumps(content) + "\n")
    if rows is not None:
        np.save(folder / ROWS, rows)


def _lender(folder: Path, datasets: Path) -> Path:
    lent = json.loads((folder / LENDER).read_text(encoding="utf-8"))
    home = datasets / str(lent["name"])
    here = (home / CORPUS_RECORD).is_file()
    if not here or read_record(home).sha256 != lent["sha256"]:
        raise DataError(
            f"passages of {folder} are kept with '{home.name}', which "
            + ("has other passages now" if here else "is not here"),
            hint=f"ragcun data get {home.name}, then {folder.name} with --force",
        )
    return home


def write_corpus(
    passages: Iterable[Passage], folder: Path, *, source: Path, notes: Notes
) -> CorpusRecord:
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


def write_passages(passages: Iterable[Passage], file: Path) -> CorpusRecord:
    """Write passages that come in the order of their ids, and return what they are."""
    digest, count, empty = hashlib.sha256(), 0, 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
        for batch in _batches(passages, characters=_BATCH_CHARACTERS):
            ids, titles, texts, _ = zip(*batch, strict=True)
            columns = [pa.array(column, pa.string()) for column in (ids, titles, texts)]
            stream.write_batch(pa.record_batch(columns, SCHEMA))
            digest.update(content_bytes(batch))
            count += len(batch)
            empty += sum(not passage.content for passage in batch)
    return CorpusRecord(passages=count, sha256=digest.hexdigest(), empty=empty)


def content_digest(corpus: Corpus) -> str:
    """The digest that the record of a corpus holds, of what is read now."""
    digest = hashlib.sha256()
    for start in range(0, len(corpus), BATCH_ROWS):
        rows = range(start, min(start + BATCH_ROWS, len(corpus)))
        digest.update(content_bytes(corpus.passages_of(rows)))
    return digest.hexdigest()


def content_bytes(passages: Iterable[Passage]) -> bytes:
    """What the digest of a corpus is of: the lengths of each passage's fields, and the fields."""
    return "".join(
        f"{len(p.id)},{len(p.title)},{len(p.text)}:{p.id}{p.title}{p.text}" for p in passages
    ).encode()
