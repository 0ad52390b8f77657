"""What commands are doing at this moment, in a file each of the workspace.

A file is written when a stage begins and every few seconds of its loops, and removed at its end. A
kill leaves it: when it was last written tells.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ragcun_cli.pipeline.machine.progress import Advance, Progress
from ragcun_cli.pipeline.stages.attempts import record_of
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.manifest import write_atomically

EVERY = 5.0
"""Seconds between two signs of life."""
SILENT = 120.0
"""Seconds without one after which a command counts as gone."""


@dataclass(frozen=True)
class Sign:
    """What a command was doing when it last said so; times are in seconds since 1970."""

    record: str
    """Of the task, as attempts have it."""
    label: str
    host: str
    pid: int
    since: float
    seen: float
    loop: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float | None = None
    """Units a second."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """As the loss of the last line of the log."""
    born: str = ""
    """When its process began, which tells it from a later one of its number."""

    @property
    def is_alive(self) -> bool:
        """Whether the command can be at work still: a process that is there, or a recent sign."""
        if self.host == socket.gethostname():
            with suppress(PermissionError):
                try:
                    os.kill(self.pid, 0)
                except ProcessLookupError:
                    return False
            return self.born == _born(self.pid)
        return time.time() - self.seen < SILENT

    @property
    def left(self) -> float | None:
        """Seconds that the loop will still take; None before its rate is known."""
        return (self.total - self.done) / self.rate if self.rate else None


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty where the system has no /proc."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    return ""


class Pulse:
    """A progress that also gives signs of life."""

    def __init__(self, progress: Progress, file: Path, sign: Sign) -> None:
        self._progress, self._file, self._sign = progress, file, sign
        self.note, self.detail, self.stage = progress.note, progress.detail, progress.stage
        self.board = progress.board
        self._written = 0.0
        self._write()

    def measure(self, values: Mapping[str, float]) -> None:
        """Pass on what a loop measured, and keep it for the next sign."""
        self._progress.measure(values)
        self._sign = replace(self._sign, measured=dict(values))

    @contextmanager
    def bar(self, label: str, *, total: int, unit: str) -> Iterator[Advance]:
        """A bar whose state is written every few seconds."""
        done, first, began = 0, 0, 0.0
        with self._progress.bar(label, total=total, unit=unit) as advance:

            def counted(count: int) -> None:
                nonlocal done, first, began
                done += count
                now = time.monotonic()
                if not began:  # what an earlier attempt had done came at once
                    first, began = done, now
                if now - self._written >= EVERY:
                    rate = (done - first) / (now - began) if now > began else None
                    at = replace(self._sign, loop=label, done=done, total=total, unit=unit)
                    self._sign = replace(at, rate=rate or None)
                    self._write()
                advance(count)

            yield counted

    def _write(self) -> None:
        self._written = time.monotonic()
        self._sign = replace(self._sign, seen=time.time())
        with suppress(OSError):
            write_atomically(self._file, json.dumps(asdict(self._sign)) + "\n")


@contextmanager
def giving_signs(workspace: Path | None, task: Task, progress: Progress) -> Iterator[Progress]:
    """A progress that gives signs of life while a task runs; the same one without a workspace."""
    if workspace is None:
        yield progress
        return
    host, pid, now = socket.gethostname(), os.getpid(), time.time()
    file = workspace / "running" / f"{host}-{pid}.json"
    try:
        sign = Sign(record_of(task, workspace), task.label, host, pid, now, now, born=_born(pid))
        yield Pulse(progress, file, sign)
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
            signs_of_life(workspace)  # what kills left goes, too
            file.parent.rmdir()


def signs_of_life(workspace: Path) -> list[Sign]:
    """What commands of a workspace have last said, those of dead ones left out and removed."""
    found = []
    for file in sorted((workspace / "running").glob("*.json")):
        with suppress(OSError, ValueError, TypeError):
            sign = Sign(**json.loads(file.read_text(encoding="utf-8")))
            if sign.is_alive:
                found.append(sign)
            else:
                file.unlink()
    return found
