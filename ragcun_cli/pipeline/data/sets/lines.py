"""Read text files that others wrote: what is harmless is accepted and said, the rest is refused."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any

from ragcun_cli.spec.errors import DataError

_GZIP, _BOM = b"\x1f\x8b", b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
LONGEST_LINE = 1 << 24
"""Bytes of a line, with its end, at most: a packed file of a few bytes can hold one that fills the
memory."""


class Notes:
    """What was harmless in some files, and how often."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}

    def add(self, file: Path, what: str, *, once: bool = False, line: int | None = None) -> None:
        """Remember one thing about a file, and in which line it was first."""
        key = (file.name, what)
        self._counts[key] = 1 if once else self._counts[key] + 1
        self._first.setdefault(key, "" if line is None else f"first in line {line:,}")

    def lines(self) -> list[str]:
        """One sentence a thing."""
        said = []
        for key, count in self._counts.items():
            times = f"{count:,} times" if count > 1 else ""
            where = ", ".join(filter(None, (times, self._first[key])))
            said.append(": ".join(key) + (f" ({where})" if where else ""))
        return said


def locate(folder: Path, name: str) -> Path:
    """A file of a folder, packed by gzip or not; the plain one where there are both."""
    plain, packed = folder / name, folder / f"{name}.gz"
    return packed if packed.is_file() and not plain.is_file() else plain


def read_lines(file: Path, notes: Notes, *, keep_blank: bool = False) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank, without its end.

    Accepted and noted: gzip, or none, whatever the name; a byte order mark; Windows line ends;
    blank lines, which come too where ``keep_blank``.

    Raises:
        DataError: the file is missing, damaged or not UTF-8, or has a line without end.
    """
    try:
        with file.open("rb") as opened:
            packed = opened.read(2) == _GZIP
            opened.seek(0)
            if packed:
                notes.add(file, "packed by gzip, read all the same", once=True)
            elif file.suffix == ".gz":
                notes.add(file, "not packed, in spite of its name, read all the same", once=True)
            stream = BufferedReader(gzip.GzipFile(fileobj=opened)) if packed else opened
            for number, line in _decoded(file, stream, notes):
                if keep_blank or line.strip():
                    yield number, line
                else:
                    notes.add(file, "blank lines left out")
    except FileNotFoundError:
        raise DataError(f"{file} is missing") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{file} is a damaged gzip file: {error}", hint=f"gzip --test < {_quoted(file)}"
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _decoded(file: Path, stream: BufferedIOBase, notes: Notes) -> Iterator[tuple[int, str]]:
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{file}:{number}: the line has more than {LONGEST_LINE:,} bytes",
                hint=f"{quoted(file, number)} | head -c 1000",
            )
        if number == 1 and line.startswith(_UTF16):
            raise _not_utf8(file, number, "it begins as UTF-16 does", "UTF-16")
        if number == 1 and line.startswith(_BOM):
            notes.add(file, "begins with a byte order mark, left out", once=True)
            line = line[len(_BOM) :]
        if line.endswith(b"\r\n"):
            notes.add(file, "lines end as on Windows", once=True)
        try:
            yield number, line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start + 1} of the line"
            raise _not_utf8(file, number, reason, "LATIN1") from error


def _not_utf8(file: Path, number: int, reason: str, encoding: str) -> DataError:
    command = _piped(file, f"iconv -f {encoding} -t UTF-8")
    return DataError(
        f"{file}:{number}: not UTF-8: {reason}",
        hint=f"{command} > {_quoted(file)}.utf8, if {encoding} is what it is",
    )


def quoted(file: Path, number: int, line: str = "") -> str:
    """The command that shows a line, or mends a file whose lines end as on an old Macintosh."""
    if "\r" in line:
        return _piped(file, r"tr '\r' '\n'") + f" > {_quoted(file)}.lines, if \\r ends its lines"
    return _piped(file, f"sed -n {number}p")


def unpacked(file: Path) -> str:
    """The command that writes a file to the standard output, packed by gzip or not."""
    with file.open("rb") as opened:
        packed = opened.read(2) == _GZIP
    return f"gzip -dc < {_quoted(file)}" if packed else f"cat {_quoted(file)}"


def _piped(file: Path, command: str) -> str:
    source = unpacked(file)
    return f"{source} | {command}" if source.startswith("gzip") else f"{command} < {_quoted(file)}"


def _quoted(file: Path) -> str:
    return shlex.quote(str(file))


def read_objects(file: Path, notes: Notes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and object of each line of a JSONL file.

    Raises:
        DataError: as `read_lines`, or a line is no JSON object.
    """
    for number, line in read_lines(file, notes):
        value = json_of(line, number, file, notes)
        if not isinstance(value, dict):
            raise DataError(f"{file}:{number}: expected a JSON object, got {line[:80]!r}")
        yield number, value


def json_of(text: str, number: int, file: Path, notes: Notes) -> object:
    """The value of a JSON text in some line of a file.

    Accepted and noted: control characters, such as tabs, that are not escaped.

    Raises:
        DataError: it is not JSON, or an object has a key twice.
    """
    try:
        try:
            return _JSON.decode(text)
        except json.JSONDecodeError:
            value: object = _LOOSE_JSON.decode(text)
            notes.add(file, "control characters that JSON wants escaped, kept as they are")
            return value
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}:{number}: not JSON: {error.msg} at column {error.pos + 1}",
            hint=quoted(file, number, text),
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a deep nest
        raise DataError(
            f"{file}:{number}: not JSON that can be read: {error}", hint=quoted(file, number, text)
        ) from error


def _each_key_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return row


_JSON = json.JSONDecoder(object_pairs_hook=_each_key_once)
_LOOSE_JSON = json.JSONDecoder(object_pairs_hook=_each_key_once, strict=False)

_FOR_NONE = frozenset(("nan", "null", "none", "na", "n/a", "#n/a", "<na>", r"\n"))
"""In small letters: of pandas, R, spreadsheets and dumps of databases."""
_LONGEST_FOR_NONE = 10


def text_of(value: str, file: Path, notes: Notes, line: int | None = None) -> str:
    """A text that can be stored: halves of characters, which JSON can name, are replaced.

    A text that is no more than what tools write where there is none is noted, and kept.
    """
    if len(value) < _LONGEST_FOR_NONE and value.strip().lower() in _FOR_NONE:
        what = f"a text is no more than {value.strip()!r}, as tools write where there is none"
        notes.add(file, what, line=line)
    try:
        value.encode()
    except UnicodeEncodeError:
        notes.add(file, "a text holds half a character (a lone surrogate), replaced by U+FFFD")
        return re.sub(r"[\ud800-\udfff]", "�", value)
    return value


def id_of(value: object, where: str, file: Path, notes: Notes) -> str:
    """An id as text; one that TREC's files and BEIR's tables cannot hold is refused.

    White space is all that Unicode calls so: tools part the lines of a run file at any of it.

    Raises:
        DataError: it is neither text nor a whole number, is empty, or has white space.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        notes.add(file, "an id is a number, read as text")
        return str(value)
    if not isinstance(value, str) or not value:
        raise DataError(f'{where}: expected an "_id" with a text, got {value!r:.80}')
    if not re.fullmatch(r"[^\s\x00-\x1f\x7f\ud800-\udfff]+", value):
        raise DataError(
            f"{where}: id {value!r:.80} has white space or a control character, which run files "
            "and tables of judgements cannot hold"
        )
    return value
