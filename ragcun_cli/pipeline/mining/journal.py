"""Lines of several JSONL files that belong together, written so that a kill loses few of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

ROWS_AT_ONCE = 500


class _Block(NamedTuple):
    """Some rows that were written together."""

    rows: int
    sizes: tuple[int, ...]
    """Bytes in each file."""

    sha256: str
    """Of the number of rows and of the bytes."""

    @classmethod
    def of(cls, rows: int, parts: Sequence[bytes]) -> Self:
        content = b"\0".join([b"%d" % rows, *parts])
        return cls(rows, tuple(map(len, parts)), sha256(content).hexdigest())


def _read_block(line: bytes, largest: Sequence[int]) -> _Block:
    """What a line lists; nothing that fits any bytes where it is none."""
    nothing = _Block(0, (0,) * (len(largest) - 1), "")
    try:
        rows, sizes, digest = json.loads(line)
        fits = all(0 <= size <= most for size, most in zip(sizes, largest[:-1], strict=True))
    except (ValueError, TypeError):
        return nothing
    return _Block(rows, tuple(sizes), digest) if fits and line.endswith(b"\n") else nothing


class Journal:
    """One line in each file for each row; what an earlier attempt left whole is kept.

    Rows are on disk, in all files, at the latest when so many more have come. Each such block is
    listed with its digest once it is there, and what is not listed, or is not what was written, is
    cut off with all that follows.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._files = [folder / name for name in (*names, f"{names[0]}.blocks")]
        self._held: list[tuple[str, ...]] = []
        self.rows = self._cut_to_whole_rows()
        """Rows that were there."""

    def _cut_to_whole_rows(self) -> int:
        for file in self._files:
            file.touch()
        rows, ends = 0, [0] * len(self._files)
        *streams, listed = [file.open("rb") for file in self._files]
        for line in listed:
            block = _read_block(line, [file.stat().st_size for file in self._files])
            contents = [
                stream.read(size) for stream, size in zip(streams, block.sizes, strict=True)
            ]
            if block != _Block.of(block.rows, contents):
                break
            rows += block.rows
            sizes = [*map(len, contents), len(line)]
            ends = [end + size for end, size in zip(ends, sizes, strict=True)]
        for file, stream, end in zip(self._files, (*streams, listed), ends, strict=True):
            stream.close()
            os.truncate(file, end)
        return rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._write()

    def add(self, *contents: Mapping[str, Any]) -> None:
        """One row: what goes into each file."""
        texts = (json.dumps(content, ensure_ascii=False) + "\n" for content in contents)
        self._held.append(tuple(texts))
        if len(self._held) >= ROWS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        if not self._held:
            return
        parts = ["".join(lines).encode() for lines in zip(*self._held, strict=True)]
        line = f"{json.dumps(_Block.of(len(self._held), parts))}\n".encode()
        for file, part in zip(self._files, [*parts, line], strict=True):
            with file.open("ab") as stream:
                stream.write(part)
                stream.flush()
                os.fsync(stream.fileno())
        self._held.clear()
