"""Digests of files that are no stage's output, each in a file beside: caches and drafts."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import digest_once, write_atomically

MARK = ".sha256"


def _mark_of(file: Path) -> Path:
    return file.with_name(f"{file.name}{MARK}")


def mark(*files: Path) -> None:
    """Write down the digests of whole files, once their bytes are on disk.

    A mark comes after its file, so that a stop or a power cut leaves a file without one, or one
    that does not fit, and never a mark of bytes that are not there.
    """
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    for file in files:
        write_atomically(_mark_of(file), digest_once(file))


def is_marked(file: Path) -> bool:
    """Whether a file was written to its end, whatever has become of it since."""
    return _mark_of(file).is_file()


def read_marked(file: Path) -> bytes:
    """The bytes of a marked file.

    Raises:
        WorkspaceError: they are not those that were written.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _damaged(file) from error
    if hashlib.sha256(content).hexdigest() != _marked_digest(file):
        raise _damaged(file)
    return content


def check_marked(*files: Path) -> None:
    """Pass if marked files are what was written; read once in a process while nothing writes them.

    Raises:
        WorkspaceError: naming the first that is not.
    """
    for file in files:
        if not file.is_file() or digest_once(file) != _marked_digest(file):
            raise _damaged(file)


def damaged_files(root: Path) -> Iterator[Path]:
    """Files under a folder, hidden ones apart, that are not what was written, or have no mark."""
    for path in sorted(root.rglob("*")):
        file = path.with_suffix("") if path.suffix == MARK else path
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or path.is_dir() or (path is not file and file.is_file()):
            continue
        if not file.is_file() or not is_marked(file) or digest_once(file) != _marked_digest(file):
            yield file


def _marked_digest(file: Path) -> str:
    return _mark_of(file).read_bytes().decode("ascii", "replace")


def _damaged(file: Path) -> WorkspaceError:
    return WorkspaceError(
        f"the cache is damaged: {file} is not what was written",
        hint=shlex.join(["rm", "-r", str(file.parent)]),
    )
