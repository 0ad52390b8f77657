"""Lines of several JSONL files that belong together, written so that a kill loses few of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

ROWS_AT_ONCE = 500


class Journal:
    """One line in each file for each row; what an earlier attempt left whole is kept.

    Rows are on disk, in all files, at the latest when so many more have come; a row that stands in
    one file and not in another is no row.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._files = [folder / name for name in names]
        self._held: list[tuple[str, ...]] = []
        self.rows = self._cut_to_whole_rows()
        """Rows that were there."""

    def _cut_to_whole_rows(self) -> int:
        for file in self._files:
            file.touch()
        rows, ends = 0, [0] * len(self._files)
        streams = [file.open("rb") for file in self._files]
        for lines in zip_longest(*streams, fillvalue=b""):
            if not all(line.endswith(b"\n") for line in lines):
                break
            rows += 1
            ends = [end + len(line) for end, line in zip(ends, lines, strict=True)]
        for file, stream, end in zip(self._files, streams, ends, strict=True):
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
        for file, lines in zip(self._files, zip(*self._held, strict=True), strict=False):
            with file.open("a", encoding="utf-8", newline="\n") as stream:
                stream.writelines(lines)
                stream.flush()
                os.fsync(stream.fileno())
        self._held.clear()
