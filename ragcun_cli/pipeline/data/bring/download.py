"""Bring one remote file to disk, proven to be the right one.

Beside the target stand ``NAME.part``, what has come so far, ``NAME.part.json``, which version of
the file that was, and ``.NAME.lock``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ragcun_cli.pipeline.data.bring.mirrors import (
    Answer,
    DamagedError,
    PassingError,
    RefusedError,
    ask,
)
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.machine.stops import at_once, locked
from ragcun_cli.spec.addresses import shown
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import write_atomically


@dataclass(frozen=True)
class RemoteFile:
    """A file that others publish, and what its bytes have to be."""

    urls: tuple[str, ...]
    """Mirrors, in the order they are tried; http, https or file."""

    size: int | None = None
    """In bytes."""

    md5: str | None = None
    sha256: str | None = None

    @property
    def has_digest(self) -> bool:
        """Whether wrong bytes would be noticed."""
        return bool(self.md5 or self.sha256)


@dataclass(frozen=True)
class Patience:
    """How long to put up with a mirror."""

    attempts: int = 5
    """Failures in a row, none of which brought a new byte, after which a mirror is given up."""

    backoff_seconds: float = 1.0
    """Up to this long before the second attempt, and twice as long before each further one."""

    longest_wait_seconds: float = 60.0
    """More than this is not waited, whatever the mirror asks for."""

    stall_seconds: float = 60.0
    """Silence after which an attempt has failed."""

    sleep: Callable[[float], None] = time.sleep


PATIENT = Patience()


def fetch(
    file: RemoteFile, target: Path, *, progress: Progress, label: str, patience: Patience = PATIENT
) -> Path:
    """The target, whole and with the right size and digest; nothing else ever has its name.

    A target that is right already is left alone, without asking a mirror. What an interrupted
    attempt brought is kept and continued, by a later call too.

    Raises:
        DataError: no mirror gave the file, or there is no room for it.
    """
    if flaw(file, target) is not None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target.with_name(f".{target.name}.lock")):
                if flaw(file, target) is not None:
                    _Download(file, target, progress, label, patience).run()
        except OSError as error:
            raise DataError(f"{label} could not be downloaded: {error}") from error
    return target


def flaw(file: RemoteFile, path: Path) -> str | None:
    """In what a file differs from the published one; None where it does not, as far as is known."""
    if not path.is_file():
        return "it is missing"
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"it has {size:,} bytes instead of {file.size:,}"
    for name, expected in (("md5", file.md5), ("sha256", file.sha256)):
        if expected:
            with path.open("rb") as stream:
                new = partial(hashlib.new, name, usedforsecurity=False)
                got = hashlib.file_digest(stream, new).hexdigest()
            if got != expected.lower():
                return f"its {name} is {got} instead of {expected.lower()}"
    return None


@dataclass(frozen=True)
class _Download:
    file: RemoteFile
    target: Path
    progress: Progress
    label: str
    patience: Patience

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def version(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    def run(self) -> None:
        reasons: list[str] = []
        for url in self.file.urls:
            if reasons:
                self.progress.note(f"{self.label}: {reasons[-1]}; another address is asked")
            try:
                self._from_mirror(url)
            except RefusedError as reason:
                reasons.append(f"{url}: {reason}")
            else:
                return
        command = ["curl", "-fL", "-o", str(self.target), *self.file.urls[:1]]
        before = [f"{self.label} could not be downloaded"] if len(reasons) > 1 else []
        raise DataError("\n  ".join([*before, *reasons]), hint=shlex.join(command))

    def _from_mirror(self, url: str) -> None:
        failures, damages, furthest = 0, 0, self._held()
        while True:
            try:
                self._receive(url)
                self._finish()
            except DamagedError as reason:
                self._discard()
                damages += 1
                if damages == 2:
                    raise RefusedError(f"{reason}, again after a new start") from None
                self.progress.note(f"{self.label}: {reason}; starting anew")
            except PassingError as reason:
                failures = 1 if self._held() > furthest else failures + 1
                furthest = max(furthest, self._held())
                if failures >= self.patience.attempts:
                    raise RefusedError(f"{reason}, {failures} times in a row") from None
                self._wait(reason, failures)
            else:
                return

    def _wait(self, reason: PassingError, failures: int) -> None:
        seconds = reason.wait
        if seconds is None:
            longest = self.patience.backoff_seconds * 2 ** (failures - 1)
            seconds = longest * random.uniform(0.5, 1)
        seconds = min(seconds, self.patience.longest_wait_seconds)
        self.progress.note(f"{self.label}: {reason}; trying again in {seconds:.0f} s")
        with at_once():
            self.patience.sleep(seconds)

    def _receive(self, url: str) -> None:
        """Bring the partial file to its full size, going on from where it ends if that is safe."""
        size = self.file.size
        held, validator = self._resumable(url)
        if size and held >= size:
            return
        stall = self.patience.stall_seconds
        with ask(url, held=held, validator=validator, stall_seconds=stall) as answer:
            if size is not None and answer.total not in (None, size):
                raise RefusedError(f"it offers {answer.total:,} bytes instead of {size:,}")
            total = size if answer.total is None else answer.total
            if total is not None:
                self._check_room(total)
            if answer.start == 0:
                self._begin(url, answer.validator)
            self._append(answer, total)

    def _append(self, answer: Answer, total: int | None) -> None:
        held = answer.start
        label = f"{self.label}, from byte {held:,} on" if held else self.label
        rest = max(0, (total or 0) - held)
        with (
            self.part.open("ab") as stream,
            self.progress.bar(label, total=rest, unit="B") as step,
        ):
            for piece in answer.pieces:
                held += len(piece)
                if total is not None and held > total:
                    raise DamagedError(f"it sends more than {total:,} bytes")
                stream.write(piece)
                step(len(piece))
            if total is not None and held < total:
                raise PassingError(f"it stopped after {held:,} of {total:,} bytes")

    def _check_room(self, total: int) -> None:
        folder = self.target.parent
        needed, free = total - self._held(), shutil.disk_usage(folder).free
        if needed > free:
            raise DataError(
                f"{self.label} needs {needed:,} more bytes in {folder}, where {free:,} are free",
                hint=shlex.join(["df", "-h", str(folder)]),
            )

    def _finish(self) -> None:
        if (wrong := flaw(self.file, self.part)) is not None:
            raise DamagedError(f"the file it gave is wrong: {wrong}")
        with self.part.open("rb+") as stream:
            os.fsync(stream.fileno())
        self.part.replace(self.target)
        self.version.unlink(missing_ok=True)

    def _held(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)

    def _begin(self, url: str, validator: str | None) -> None:
        self.part.write_bytes(b"")
        write_atomically(
            self.version, json.dumps({"url": shown(url), "validator": validator}) + "\n"
        )

    def _resumable(self, url: str) -> tuple[int, str | None]:
        """Bytes held that may begin this mirror's file, and its version if that is known.

        The version is of the mirror that began. Bytes of another mirror, or without a version, are
        continued only where a digest would tell if they did not fit.
        """
        known = None
        with contextlib.suppress(FileNotFoundError, ValueError):
            known = json.loads(self.version.read_text(encoding="utf-8"))
        if isinstance(known, dict) and known.get("url") == shown(url) and known.get("validator"):
            return self._held(), known["validator"]
        return (self._held() if self.file.has_digest else 0), None
