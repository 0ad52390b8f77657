"""Unpack what others have packed, without trusting it."""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
import zlib
from pathlib import Path

from ragcun_cli.core.folders import whole_folder
from ragcun_cli.spec.errors import DataError

_PIECE_BYTES = 1 << 18
_MOST_MEMBERS = 100_000
_MOST_PARTS, _LONGEST_PATH = 100, 4_096
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DAMAGE = (EOFError, NotImplementedError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error)


def unpack(archive: Path, folder: Path, *, max_bytes: int) -> None:
    """Unpack a .zip into a new folder, which appears when it is whole.

    All members are looked at before anything is written. What macOS adds (``__MACOSX``,
    ``.DS_Store``) is left out, and so are modes, owners and times.

    Raises:
        DataError: the folder exists; the archive is damaged, or holds more than ``max_bytes``, too
            many files and folders, too long a path, something other than plain files and folders,
            a name that leads elsewhere or two names that some file systems hold for one.
    """
    if folder.exists():
        raise DataError(f"{archive} cannot be unpacked: {folder} exists already")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _checked(opened, str(archive), max_bytes)
            with whole_folder(folder) as draft:
                _write(opened, members, draft, max_bytes)
    except _DAMAGE as error:
        raise DataError(f"{archive} is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error


def _checked(
    opened: zipfile.ZipFile, archive: str, max_bytes: int
) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """Each member with the names on the way to it; without what is left out."""
    files: dict[tuple[str, ...], str] = {}
    folders: set[tuple[str, ...]] = set()
    members = []
    declared = 0
    for count, member in enumerate(opened.infolist(), 1):
        name = member.orig_filename
        where = f"{archive}: member {name!r:.100}"
        parts = _parts(member, where)
        declared += member.file_size
        if declared > max_bytes:
            raise DataError(f"{where} brings it to {declared:,} bytes of {max_bytes:,} allowed")
        if not parts:
            continue
        key = tuple(unicodedata.normalize("NFC", part.casefold()) for part in parts)
        folders.update(key[:length] for length in range(1, len(key)))
        if name.endswith("/"):
            folders.add(key)
        elif key in files:
            raise DataError(f"{where} has the same name as {files[key]!r}")
        else:
            files[key] = name
        if max(count, len(files) + len(folders)) > _MOST_MEMBERS:
            most = f"{_MOST_MEMBERS:,} files and folders"
            raise DataError(f"{where} is one more than the {most} allowed")
        members.append((member, parts))
    for key in files.keys() & folders:
        raise DataError(f"{archive}: member {files[key]!r} is a file and a folder")
    return members


def _parts(member: zipfile.ZipInfo, where: str) -> tuple[str, ...]:
    """The names on the way to the member; none for what is left out."""
    name = member.orig_filename
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if len(parts) > _MOST_PARTS or len(name.encode(errors="replace")) > _LONGEST_PATH:
        most = f"{_MOST_PARTS} parts and {_LONGEST_PATH:,} bytes"
        raise DataError(f"{where} has a longer path than the {most} allowed")
    if not name.isprintable() or "\\" in name:
        raise DataError(f"{where} has a character in its name that is not allowed")
    if name.startswith("/") or any(re.match("[A-Za-z]:", part) for part in parts):
        raise DataError(f"{where} has an absolute path")
    if ".." in parts:
        raise DataError(f"{where} leads out of the folder")
    if not parts and not name.endswith("/"):
        raise DataError(f"{where} has no name")
    if "__MACOSX" in parts[:1] or ".DS_Store" in parts[-1:]:
        return ()
    if member.flag_bits & _ENCRYPTED:
        raise DataError(f"{where} is encrypted")
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{where} is a link or a device")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = member.compress_type
        raise DataError(f"{where} is packed by method {method}, which is not read here")
    return parts


def _write(
    opened: zipfile.ZipFile,
    members: list[tuple[zipfile.ZipInfo, tuple[str, ...]]],
    draft: Path,
    max_bytes: int,
) -> None:
    for member, parts in members:
        path = draft.joinpath(*parts)
        if member.orig_filename.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            max_bytes -= _copy(opened, member, path, max_bytes)


def _copy(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, limit: int) -> int:
    where = f"{opened.filename}: member {member.orig_filename!r}"
    written = 0
    with opened.open(member) as source, path.open("xb") as sink:
        while piece := source.read(_PIECE_BYTES):
            written += len(piece)
            if written > limit:
                raise DataError(f"{where} holds more than it declares, and more than is allowed")
            sink.write(piece)
    if written != member.file_size:
        raise DataError(f"{where} holds {written:,} bytes and declares {member.file_size:,}")
    return written
