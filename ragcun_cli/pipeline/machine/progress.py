"""How a stage tells what it is doing, without knowing the terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from ragcun_cli.pipeline.machine.stops import safe_point

Advance = Callable[[int], None]
"""Called with the number of units finished since the last call; a safe point to stop at."""


class Progress(Protocol):
    """What a stage may say to whoever is watching."""

    def note(self, text: str) -> None:
        """One line worth reading, such as what a stage found or decided."""

    def detail(self, text: str) -> None:
        """One line for those who asked for more."""

    def stage(self, text: str) -> None:
        """Which stage of how many begins."""

    def measure(self, values: Mapping[str, float]) -> None:
        """What the loop that runs has measured, as the loss of a training."""

    def board(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table in the place of the one shown before; no rows end that."""

    def bar(self, label: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """A measure of one loop: ``with progress.bar("encode", total=n, unit="texts") as step``."""


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Drop the line."""

    detail = stage = note

    def measure(self, values: Mapping[str, float]) -> None:
        """Drop the values."""

    def board(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Drop the table."""

    @contextmanager
    def bar(self, label: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Count nothing."""
        yield lambda count: safe_point()
