"""What a folder's stages have written: one record for each stage, one digest for each file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict

from ragcun_cli.spec.errors import NewerFormatError, WorkspaceError

SCHEMA_VERSION: Literal[2] = 2
"""Of manifests: raised when an earlier version of ragcun could not read what this one writes."""


class Stage(StrEnum):
    """The stages, in the order of the road."""

    DATA = "data"
    MINE = "mine"
    TRAIN = "train"
    SEARCH = "search"
    EVAL = "eval"
    ISOTROPY = "isotropy"
    REPORT = "report"


class Record(BaseModel):
    """Base of everything written to disk as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Artifact(Record):
    """One file that a stage wrote."""

    path: str
    """Relative to the folder of the manifest, with forward slashes."""

    sha256: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path, *, root: Path) -> Artifact:
        """Describe a file that exists now."""
        status = file.stat()
        return cls(
            path=file.relative_to(root).as_posix(),
            sha256=file_digest(file),
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )

    def is_intact(self, root: Path, *, verify: bool = False) -> bool:
        """Whether the file is there and unchanged: by size and time, by content if in doubt.

        A copied workspace has new times, so a file of the right size is read before it is called
        changed. ``verify`` reads every file.
        """
        file = root / self.path
        try:
            status = file.stat()
        except OSError:
            return False
        if status.st_size != self.size:
            return False
        if status.st_mtime_ns == self.mtime_ns and not verify:
            return True
        return digest_once(file) == self.sha256


class StageRecord(Record):
    """One finished stage."""

    recipe: str
    """Digest of everything its numbers depend on."""

    made_of: dict[str, Any] = {}
    """What the recipe is the digest of: the numbers' version, values, digests of the input."""

    outputs: tuple[Artifact, ...]
    seconds: float
    finished: str
    """UTC, ISO 8601."""

    device: str
    versions: dict[str, str]
    commit: str | None
    """Of ragcun's own source, where it runs from a checkout; ``-dirty`` if that was changed."""

    details: dict[str, Any]
    """What the stage wants remembered beside its outputs: counts, rates, sources."""

    provenance: dict[str, Any] = {}
    """Under what it was computed: command, host, devices, threads; none before form 2."""

    seal: str | None = None
    """Digest of all this and of the name that it stands under."""

    def sealed(self, key: str) -> StageRecord:
        """A copy with the seal of what it says now."""
        none = set() if self.provenance else {"provenance"}
        content = json.loads(self.model_dump_json(exclude={"seal", *none}))
        return self.model_copy(update={"seal": digest({key: content})})


class Manifest(Record):
    """All that the stages of one folder have finished; written after each stage."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    stages: dict[str, StageRecord] = {}

    @classmethod
    def load(cls, file: Path) -> Manifest:
        """Read a manifest, once in a process while nothing writes to it; an absent one is empty.

        Raises:
            NewerFormatError: a later version of ragcun wrote it.
            WorkspaceError: it is no manifest, or a record in it is not what was written.
        """
        try:
            return _load(file, *_state(file))
        except (FileNotFoundError, NotADirectoryError):
            return cls()

    def save(self, file: Path) -> None:
        """Write atomically: a reader sees the old manifest or the new one, never half."""
        write_atomically(file, self.model_dump_json(indent=2) + "\n")

    def with_stage(self, key: str, record: StageRecord | None) -> Manifest:
        """A copy in which one stage has this record, or none."""
        stages = {name: kept for name, kept in self.stages.items() if name != key}
        if record is not None:
            stages[key] = record.sealed(key)
        return Manifest(stages=dict(sorted(stages.items())))


@lru_cache(maxsize=4096)
def _load(file: Path, *unchanged: int) -> Manifest:
    hint = f"move {file} away; the stages it recorded will run again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerFormatError(
                f"{file} was written by a later version of ragcun: its form is number {version}, "
                f"and this version reads up to number {SCHEMA_VERSION}",
                hint="pip install --upgrade ragcun",
            )
        manifest = Manifest.model_validate(content)
    except (OSError, ValueError, RecursionError) as error:
        raise WorkspaceError(f"{file} cannot be read as a manifest", hint=hint) from error
    for key, record in manifest.stages.items():
        if record.seal is not None and record != record.sealed(key):
            raise WorkspaceError(
                f"{file}: the record of '{key}' was changed after it was written", hint=hint
            )
    return manifest


@contextmanager
def replaced(file: Path) -> Iterator[BinaryIO]:
    """A stream into a hidden draft, which takes the file's place once it is whole and on disk.

    Makes the folder if it is not there. A body that raises leaves the old file and no draft.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    try:
        with draft.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_atomically(file: Path, text: str) -> None:
    """Replace a text file in one step."""
    with replaced(file) as stream:
        stream.write(text.encode())


def file_digest(file: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_once(file: Path) -> str:
    """sha256 of a file, read once in a process while nothing writes to it."""
    return _digest_of(file, *_state(file))


def _state(file: Path) -> tuple[int, ...]:
    """Changes whenever a file is written to or replaced."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@cache
def _digest_of(file: Path, *unchanged: int) -> str:
    return file_digest(file)


def digest(value: object) -> str:
    """sha256 of a JSON value, the same for equal values whatever their key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
