"""A run as a command of its own, and what starts such commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class RunJob:
    """One command."""

    name: str
    """Letters, digits, `.`, `_` and `-`; no other job of the plan has it."""

    words: tuple[str, ...]
    """What stands after `python -m ragcun_cli`."""

    after: tuple[str, ...] = ()
    """Names of jobs whose end it waits for."""

    on_gpu: bool = True
    gpu_bytes: int = 0
    """A guess of the memory of a GPU that it takes; 0 where none was made."""


@dataclass(frozen=True)
class Launched:
    """What became of some jobs."""

    submitted: Mapping[str, str] = field(default_factory=dict)
    """Name -> number in a queue that goes on without this command."""

    failed: Mapping[str, str] = field(default_factory=dict)
    """Name -> why, of those that ended while this command was there."""

    def __call__(self) -> dict[str, str]:
        """As JSON, the numbers of jobs in the queue."""
        return dict(self.submitted)


class Launcher(Protocol):
    """Starts jobs, each after those that it waits for."""

    def launch(self, jobs: Sequence[RunJob]) -> Launched:
        """Start all; how long that takes is the launcher's matter."""


def job_name(key: str) -> str:
    """Of the job of a run, by the run's key."""
    return key.replace(":", "-")
