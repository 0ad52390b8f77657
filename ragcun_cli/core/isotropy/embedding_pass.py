"""One pass over embeddings: their moments by blocks, and a sample of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.isotropy.moments import BlockedMoments, Matrix

Keys = NDArray[np.uint64]

RESERVOIR = 20_000


class Reservoir:
    """The rows with the smallest keys among all that were added.

    With keys that are digests of names it is a sample that depends on the names alone: neither
    order nor chunks move it.

    Args:
        size: rows to keep at most.
    """

    def __init__(self, size: int = RESERVOIR) -> None:
        self._size = size
        self._rows: list[Matrix] = []
        self._keys: list[Keys] = []
        self._held = 0
        self._bound: np.uint64 | None = None  # no larger key can still get in

    def add(self, rows: Matrix, keys: Keys) -> None:
        """Offer ``(m, d)`` rows under ``(m,)`` keys, which should all be different."""
        if self._bound is not None:
            inside = np.flatnonzero(keys < self._bound)
            rows, keys = rows[inside], keys[inside]
        kept = np.argsort(keys, kind="stable")[: self._size]
        self._rows.append(rows[kept])
        self._keys.append(keys[kept])
        self._held += len(kept)
        if self._held > 2 * self._size:
            self._shrink()

    def rows(self) -> Matrix:
        """``(n, d)`` the kept rows in the order of their keys.

        Raises:
            ValueError: none was ever added.
        """
        if not self._rows:
            raise ValueError("there are no embeddings to sample")
        self._shrink()
        return self._rows[0]

    def _shrink(self) -> None:
        keys = np.concatenate(self._keys)
        kept = np.argsort(keys, kind="stable")[: self._size]
        self._rows = [np.concatenate(self._rows)[kept]]
        self._keys = [keys[kept]]
        self._held = len(kept)
        if len(kept) == self._size:
            self._bound = self._keys[0][-1]


class EmbeddingPass:
    """Everything that is kept of embeddings that come in chunks: O(d^2), whatever their number."""

    def __init__(self) -> None:
        self.moments = BlockedMoments()
        self.reservoir = Reservoir()

    def add(self, rows: Matrix, *, first_row: int, keys: Keys) -> None:
        """Take in one more chunk; chunks may come in any order, each row once.

        Args:
            rows: ``(m, d)``: rows ``first_row`` to ``first_row + m - 1`` of all.
            first_row: number of the first one, which decides its block (`BlockedMoments`).
            keys: ``(m,)`` digests, which decide what the reservoir keeps.

        Raises:
            ValueError: as `BlockedMoments.add`.
        """
        self.moments.add(rows, first_row=first_row)
        self.reservoir.add(rows, keys)
