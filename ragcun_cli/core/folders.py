"""Folders that are whole or not there."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HERE, _RENAME_EXCHANGE = -100, 2
"""AT_FDCWD, and the flag, of Linux's renameat2."""

_TEMPORARY = 0o600
"""The mode of what `tempfile` makes."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty hidden folder beside, which takes the folder's place once it is whole and on disk.

    A body that raises leaves what was there and no draft; what a kill left of one is removed.
    """
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        put_on_disk(file for file in draft.rglob("*") if file.is_file())
        take_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def discard(folder: Path) -> None:
    """Delete a folder, if it is there, of which a stop leaves nothing under its name.

    What stops left of others beside it goes too: hidden, under names that nothing reads.
    """
    aside = discarded(folder)
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(aside)
    for left in folder.parent.glob(".*.discarded"):
        shutil.rmtree(left, ignore_errors=True)


def discarded(folder: Path) -> Path:
    """Where a folder lies while it is deleted."""
    return folder.with_name(f".{folder.name}.discarded")


def take_place(new: Path, folder: Path) -> None:
    """Put a folder in the place of another beside it, which is deleted if it is there.

    In one step where the system and its file system know that (Linux's ``RENAME_EXCHANGE``), so
    that no stop leaves the place without a folder; elsewhere the earlier one goes first.
    """
    with suppress(AttributeError):  # a C library without that call
        rename = ctypes.CDLL(None).renameat2
        if rename(_HERE, os.fsencode(new), _HERE, os.fsencode(folder), _RENAME_EXCHANGE) == 0:
            discard(new)
            return
    discard(folder)
    new.rename(folder)


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in one of its name where there is none yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110
    effective = os.access in os.supports_effective_ids
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK, effective_ids=effective)


def put_on_disk(files: Iterable[Path]) -> None:
    """Return once a power cut would not take what was written to these files.

    What a library wrote as a temporary file, for its owner alone, gets the mode of any other file.
    """
    for file in files:
        with file.open("rb") as stream:
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == _TEMPORARY:
                umask = os.umask(0o077)
                os.umask(umask)
                file.chmod(0o666 & ~umask)
            os.fsync(stream.fileno())
