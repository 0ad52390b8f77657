"""How a stage tells what it is doing, without knowing the terminal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]
"""Called with the number of units finished since the last call."""


class Progress(Protocol):
    """What a stage may say to whoever is watching."""

    def note(self, text: str) -> None:
        """One line worth reading, such as what a stage found or decided."""

    def bar(self, label: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """A measure of one loop: ``with progress.bar("encode", total=n, unit="texts") as step``."""


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def bar(self, label: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Count nothing."""
        yield lambda count: None
