"""Documents of a folder or a table, and passages cut from them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ragcun_cli.core.words import word_spans
from ragcun_cli.pipeline.data.bring.user_tables import own_names, read_table
from ragcun_cli.pipeline.data.proxy.markup import TextSection, read_html, read_markdown, read_plain
from ragcun_cli.pipeline.data.proxy.settings import Tally
from ragcun_cli.pipeline.data.sets.lines import LONGEST_LINE, Notes, id_of, text_of
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError

READERS: dict[str, Callable[[str], tuple[str, list[TextSection]]]] = {
    **dict.fromkeys((".md", ".markdown"), read_markdown),
    **dict.fromkeys((".txt", ".text"), read_plain),
    **dict.fromkeys((".html", ".htm"), read_html),
}
"""End of a file's name -> what reads it."""

_COLUMNS = ("id, title or text", "text=body,title=name,id=key")
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f%\ud800-\udfff]")
"""What no id may hold, and the sign that it is written with."""

_END = re.compile(
    r"(?<!\b[A-Za-z])(?<!\b(?:Dr|Mr|Ms|St|vs|No|cf))[.!?…]+[\"'”’»)\]]*(?=\s+[^\sa-z])"
    r"|[。！？।॥؟۔]+[”’»）」』]*|\n"
)
"""Of a sentence: a stop before white space and no small letter, after no initial; one of Chinese,
Hindi, Arabic or Urdu; the end of a paragraph."""


class Document(NamedTuple):
    """A file of a folder, or a row of a table."""

    id: str
    title: str
    sections: list[TextSection]
    is_row: bool = False


def read_folder(folder: Path, tally: Tally, progress: Progress) -> Iterator[Document]:
    """The documents in a folder, in the order of their paths, which are their ids.

    Files that are not read are counted; hidden folders and links to folders too, one each.

    Raises:
        DataError: the folder cannot be read.
    """
    found = sorted(_files(folder, tally))
    with progress.bar("read documents", total=len(found), unit="files") as step:
        for name in found:
            text, why = _text_of(folder / name)
            title, sections = READERS[_suffix(name)](text) if not why else ("", [])
            if sections:
                tally.used += 1
                escaped = _UNFIT.sub(lambda match: quote(os.fsencode(match[0])), name)
                yield Document(escaped, title, sections)
            else:
                tally.leave(why or "without text", shown_name(name))
            step(1)


def shown_name(name: str) -> str:
    """A file's name that can be stored: bytes that are no character are written as such."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _files(folder: Path, tally: Tally) -> Iterator[str]:
    """Paths in the folder of what may be read."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        closed = [one for one in folders if one.startswith(".") or Path(parent, one).is_symlink()]
        folders[:] = [name for name in folders if name not in closed]
        for name in sorted([*closed, *files]):
            path = Path(parent, name)
            tally.seen += 1
            if why := _why_unread(path):
                tally.leave(why, shown_name(path.relative_to(folder).as_posix()))
            else:
                yield path.relative_to(folder).as_posix()


def _why_unread(path: Path) -> str:
    """Why a file or folder is left out unopened, if it is."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink() and (path.is_dir() or not path.exists()):
        return f"as a link to {'a folder' if path.is_dir() else 'nothing'}"
    return "" if path.is_file() and _suffix(path.name) in READERS else "of another kind"


def _text_of(file: Path) -> tuple[str, str]:
    """What a file says, and why it is left out, if it is."""
    try:
        if file.stat().st_size > LONGEST_LINE:
            return "", f"larger than {LONGEST_LINE >> 20} MiB"
        raw = file.read_bytes()
    except OSError:
        return "", "that cannot be opened"
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in raw and not wide:
        return "", "binary"
    try:
        return raw.decode("utf-16" if wide else "utf-8-sig"), ""
    except UnicodeDecodeError:
        return "", "not in UTF-8"


def read_documents(file: Path, columns: str, tally: Tally, notes: Notes) -> Iterator[Document]:
    """The rows of a table with ``text`` and perhaps ``_id`` or ``id``, and ``title``.

    Raises:
        DataError: a line is malformed, an id stands twice or there is no text.
    """
    names = own_names(columns, "id|title|text", _COLUMNS)
    known: set[str] = set()
    for number, row in read_table(file, names, notes, needed=("text",)):
        tally.seen += 1
        where = f"{file}:{number}"
        given = row.get("_id", row.get("id"))
        name = f"line-{number}" if given is None else id_of(given, where, file, notes)
        if name in known:
            raise DataError(f"{where}: id '{name}' stands in the file twice")
        known.add(name)
        title, text = (row.get(key) for key in ("title", "text"))
        if not isinstance(text, str) or not isinstance(title, str | None):
            raise DataError(
                f'{where}: "text" has to be a text, and "title", if there is one',
                hint=f"--columns {_COLUMNS[1]}",
            )
        title = " ".join(text_of(title or "", file, notes, number).split())
        _, sections = read_plain(text_of(text, file, notes, number))
        if sections:
            tally.used += 1
            path = (title,) if title else ()
            yield Document(
                name, title, [TextSection(path, one.text) for one in sections], is_row=True
            )
        else:
            tally.leave("without text", name)


def cut(text: str, most: int) -> list[str]:
    """Pieces of a text of at most so many words, without overlap.

    After the last sentence that ends in the second half of a piece; where none does, between words.
    """
    words, ends = word_spans(text), {match.end() for match in _END.finditer(text)}
    ends |= {match.start() for match in re.finditer("\n", text)}
    pieces, first = [], 0
    while first < len(words):
        last = min(first + most, len(words))
        if last < len(words):
            stops = (n for n in range(last, first + most // 2, -1) if words[n - 1][1] in ends)
            last = next(stops, last)
        pieces.append(text[words[first][0] : words[last - 1][1]])
        first = last
    return pieces


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence of a text, and what comes after it."""
    match = _END.search(text)
    end = match.end() if match else len(text)
    return " ".join(text[:end].split()), text[end:].strip()


def document_of(passage: str) -> str:
    """Id of the document that a passage is of: what stands before ``#`` and its number."""
    return re.sub(r"#[0-9]+$", "", passage)


def cut_document(document: Document, most: int) -> Iterator[tuple[TextSection, dict[str, str]]]:
    """Each section with its passages by id: `guide/install.md#3`; a row of one has the row's."""
    pieces = [(section, cut(section.text, most)) for section in document.sections]
    alone = document.is_row and sum(len(some) for _, some in pieces) == 1
    number = 0
    for section, some in pieces:
        named: dict[str, str] = {}
        for piece in some:
            number += 1
            named[document.id if alone else f"{document.id}#{number}"] = piece
        yield section, named
