"""The passages of a data set: an Arrow file on disk, memory-mapped, in the order of their ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from numpy.typing import ArrayLike, NDArray

from ragcun_cli.pipeline.data.sets.records import find_lender, read_record
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import LENDER, PASSAGES, ROWS

SCHEMA = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])
BATCH_ROWS = 10_000


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
        record = read_record(folder)
        try:
            parts = [folder / PASSAGES]
            if (folder / LENDER).is_file():
                parts.insert(0, find_lender(folder, datasets or folder.parent) / PASSAGES)
            tables = [Dataset.from_file(str(part)) for part in parts if part.is_file()]
            rows = np.load(folder / ROWS, mmap_mode="r") if (folder / ROWS).is_file() else None
            corpus = cls(concatenate_datasets(tables), rows)
        except (pa.ArrowException, OSError, ValueError, LookupError) as error:
            raise DataError(
                f"the passages in {folder} cannot be read: {error}",
                hint=f"ragcun data verify {folder.name}",
            ) from error
        if len(corpus) != record.passages:
            raise DataError(
                f"{folder} has {len(corpus):,} passages instead of {record.passages:,}",
                hint=f"ragcun data verify {folder.name}",
            )
        return corpus

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

    def blocks(self) -> Iterator[list[Passage]]:
        """All passages, some thousands at a time."""
        for start in range(0, len(self), BATCH_ROWS):
            yield self.passages_of(range(start, min(start + BATCH_ROWS, len(self))))

    def __iter__(self) -> Iterator[Passage]:
        return chain.from_iterable(self.blocks())

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


def content_digest(corpus: Corpus) -> str:
    """The digest that the record of a corpus holds, of what is read now."""
    digest = hashlib.sha256()
    for passages in corpus.blocks():
        digest.update(content_bytes(passages))
    return digest.hexdigest()


def content_bytes(passages: Iterable[Passage]) -> bytes:
    """What the digest of a corpus is of: the lengths of each passage's fields, and the fields."""
    return "".join(
        f"{len(p.id)},{len(p.title)},{len(p.text)}:{p.id}{p.title}{p.text}" for p in passages
    ).encode()
