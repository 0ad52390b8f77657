"""Unpack what others have packed, without trusting it."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from ragcun_cli.spec.errors import DataError

_PIECE_BYTES = 1 << 18
_LONGEST_HEADER_BYTES = 1 << 20
_MOST_MEMBERS = 100_000
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DAMAGE = (
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_folder: bool
    flaw: str | None
    """What it is, where that is neither a file nor a folder that can be read."""

    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a .zip, .tar.gz or .tar.xz into a new folder, which appears when it is whole.

    All members are looked at before anything is written. What macOS adds (``__MACOSX``,
    ``.DS_Store``) is left out, and so are modes, owners and times.

    Raises:
        DataError: the folder exists; the archive is damaged, or holds more than ``max_bytes``,
            something other than plain files and folders, a name that leads elsewhere or two names
            that some file systems hold for one.
    """
    if folder.exists():
        raise DataError(f"{archive} cannot be unpacked: {folder} exists already")
    try:
        _check(archive, max_bytes)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            draft = Path(scratch) / "draft"
            draft.mkdir()
            _write(archive, draft, max_bytes)
            draft.rename(folder)
    except _DAMAGE as error:
        raise DataError(f"{archive} is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error


def _check(archive: Path, max_bytes: int) -> None:
    files: dict[tuple[str, ...], str] = {}
    folders: set[tuple[str, ...]] = set()
    declared = 0
    with closing(_members(archive)) as members:
        for count, member in enumerate(members, 1):
            where = f"{archive}: member {member.name!r}"
            parts = _parts(member, where)
            declared += member.size
            if declared > max_bytes:
                raise DataError(f"{where} brings it to {declared:,} bytes of {max_bytes:,} allowed")
            if count > _MOST_MEMBERS:
                raise DataError(f"{where} is one more than the {_MOST_MEMBERS:,} members allowed")
            key = tuple(unicodedata.normalize("NFC", part.casefold()) for part in parts)
            folders.update(key[:length] for length in range(1, len(key)))
            if member.is_folder:
                folders.add(key)
            elif key in files:
                raise DataError(f"{where} has the same name as {files[key]!r}")
            elif key:
                files[key] = member.name
    for key in files.keys() & folders:
        raise DataError(f"{archive}: member {files[key]!r} is a file and a folder")


def _parts(member: _Member, where: str) -> tuple[str, ...]:
    """The names on the way to the member; none for what is left out."""
    name = member.name
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not name.isprintable() or "\\" in name:
        raise DataError(f"{where} has a character in its name that is not allowed")
    if name.startswith("/") or any(re.match("[A-Za-z]:", part) for part in parts):
        raise DataError(f"{where} has an absolute path")
    if ".." in parts:
        raise DataError(f"{where} leads out of the folder")
    if not parts and not member.is_folder:
        raise DataError(f"{where} has no name")
    if "__MACOSX" in parts[:1] or ".DS_Store" in parts[-1:]:
        return ()
    if member.flaw or member.size < 0:
        raise DataError(f"{where} is {member.flaw or 'of a negative size'}")
    return parts


def _write(archive: Path, draft: Path, max_bytes: int) -> None:
    left = max_bytes
    with closing(_members(archive)) as members:
        for member in members:
            where = f"{archive}: member {member.name!r}"
            path = draft.joinpath(*_parts(member, where))
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
            elif path != draft:
                path.parent.mkdir(parents=True, exist_ok=True)
                left -= _copy(member, path, left, where)


def _copy(member: _Member, path: Path, limit: int, where: str) -> int:
    written = 0
    with member.open() as source, path.open("xb") as sink:
        while piece := source.read(_PIECE_BYTES):
            written += len(piece)
            if written > limit:
                raise DataError(f"{where} holds more than it declares, and more than is allowed")
            sink.write(piece)
    if written != member.size:
        raise DataError(f"{where} holds {written:,} bytes and declares {member.size:,}")
    return written


def _members(archive: Path) -> Generator[_Member, None, None]:
    if archive.name.endswith(".zip"):
        return _zip_members(archive)
    if archive.name.endswith(".tar.gz"):
        return _tar_members(archive, gzip.GzipFile)
    if archive.name.endswith(".tar.xz"):
        return _tar_members(archive, lzma.LZMAFile)
    raise DataError(f"{archive} is not a .zip, .tar.gz or .tar.xz")


def _zip_members(archive: Path) -> Generator[_Member, None, None]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            flaw = None
            if info.flag_bits & _ENCRYPTED:
                flaw = "encrypted"
            elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                flaw = "a link or a device"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                flaw = f"packed by method {info.compress_type}, which is not read here"
            yield _Member(
                name=info.orig_filename,
                size=info.file_size,
                is_folder=info.orig_filename.endswith("/"),
                flaw=flaw,
                open=partial(opened.open, info),
            )


def _tar_members(
    archive: Path, unpacked: type[gzip.GzipFile] | type[lzma.LZMAFile]
) -> Generator[_Member, None, None]:
    with (
        unpacked(archive) as tape,
        tarfile.open(fileobj=_ShortReads(tape), mode="r:") as opened,
    ):
        for info in opened:
            plain = info.isdir() or info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            yield _Member(
                name=info.name,
                size=info.size,
                is_folder=info.isdir(),
                flaw=None if plain and not info.sparse else "a link, a device or no plain file",
                open=partial(_open_in_tar, opened, info),
            )
        while rest := tape.read(_PIECE_BYTES):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("there is something behind its end")


def _open_in_tar(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = opened.extractfile(info)
    if stream is None:
        raise tarfile.ReadError(f"{info.name!r} is no file")
    return stream


class _ShortReads(io.BufferedIOBase):
    """Refuses what only a forged header makes tarfile do: read very much into memory at once."""

    def __init__(self, stream: gzip.GzipFile | lzma.LZMAFile) -> None:
        self._stream = stream

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LONGEST_HEADER_BYTES:
            raise tarfile.ReadError("a header is too long")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
