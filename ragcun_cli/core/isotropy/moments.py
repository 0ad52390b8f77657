"""Mean and second moments of embeddings that come in chunks, by blocks, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.floating]

BLOCKS = 20
_ROWS_AT_ONCE = 1024 * BLOCKS  # 84 MB in float64 at 512 dimensions
_ALL_EQUAL = 1e-26  # squared rounding errors of a mean, with room


@dataclass(frozen=True)
class Moments:
    """Of ``count`` rows: all that the measures of their spectrum, mean and lengths need."""

    count: int
    """n."""
    mean: Vector
    """``(d,)``."""
    scatter: Vector
    """``(d, d)`` sum of ``(x - mean)(x - mean)^T``."""
    unit_total: Vector
    """``(d,)`` sum of the rows made unit length."""
    length_mean: float
    """Mean length of a row."""
    length_scatter: float
    """Sum of the squared deviations of the lengths from their mean."""

    @classmethod
    def of(cls, embeddings: Matrix) -> Moments:
        """The moments of one matrix; half and single precision are widened first.

        Args:
            embeddings: ``(n, d)`` with n >= 1.

        Raises:
            ValueError: it is no matrix, or has a row that is not finite or of length 0; the first
                are named.
        """
        pieces = _pieces(embeddings)
        return merged([_moments(rows, _checked_lengths(rows, first)) for first, rows in pieces])

    @property
    def dimensions(self) -> int:
        """The d of the rows."""
        return len(self.mean)

    @property
    def mean_square(self) -> float:
        """Mean squared length of a row."""
        return float(np.trace(self.scatter) / self.count + self.mean @ self.mean)

    @property
    def all_equal(self) -> bool:
        """Whether the rows differ by no more than rounding."""
        return bool(np.trace(self.scatter) <= _ALL_EQUAL * self.count * self.mean_square)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows together (Chan, Golub and LeVeque 1979).

        No large sums are subtracted, so that a mean far from 0 costs no digits.
        """
        count = self.count + other.count
        share = other.count / count
        step = other.mean - self.mean
        scatter = np.outer(step, step * (self.count * share))
        scatter += self.scatter
        scatter += other.scatter
        longer = other.length_mean - self.length_mean
        return Moments(
            count=count,
            mean=self.mean + share * step,
            scatter=scatter,
            unit_total=self.unit_total + other.unit_total,
            length_mean=self.length_mean + share * longer,
            length_scatter=self.length_scatter
            + other.length_scatter
            + longer**2 * self.count * share,
        )


def merged(parts: Sequence[Moments]) -> Moments:
    """The moments of all rows of one or more parts together."""
    return reduce(Moments.merge, parts)


class BlockedMoments:
    """Moments of 20 blocks of rows, for intervals and for curves over n.

    Row i, counted over everything that is measured, belongs to block ``i mod 20``: blocks differ by
    one row at most, and are alike if the order of the rows has nothing to do with what they say, as
    the order of the digests of their names. Chunks may come in any order. Memory: 20 (d, d)
    matrices, whatever n.
    """

    def __init__(self) -> None:
        self._blocks: list[Moments | None] = [None] * BLOCKS

    def add(self, rows: Matrix, *, first_row: int) -> None:
        """Take in one more chunk; thousands of rows at a time cost least.

        Args:
            rows: ``(m, d)``: rows ``first_row`` to ``first_row + m - 1``.
            first_row: number of the first one.

        Raises:
            ValueError: as `Moments.of`; the chunk may be taken in in part.
        """
        for start, piece in _pieces(rows):
            first = first_row + start
            lengths = _checked_lengths(piece, first)
            for offset in range(min(BLOCKS, len(piece))):
                some = slice(offset, None, BLOCKS)
                self._put((first + offset) % BLOCKS, _moments(piece[some], lengths[some]))

    def _put(self, block: int, moments: Moments) -> None:
        before = self._blocks[block]
        self._blocks[block] = moments if before is None else before.merge(moments)

    @property
    def blocks(self) -> list[Moments]:
        """Of each block that has a row, in the order of the blocks."""
        return [block for block in self._blocks if block is not None]

    def total(self) -> Moments:
        """Of all rows.

        Raises:
            ValueError: there are none.
        """
        if not self.blocks:
            raise ValueError("there are no embeddings to measure")
        return merged(self.blocks)


def _moments(rows: Vector, lengths: Vector) -> Moments:
    mean = rows.mean(axis=0)
    centred = rows - mean
    return Moments(
        count=len(rows),
        mean=mean,
        scatter=centred.T @ centred,
        unit_total=(1 / lengths) @ centred + (1 / lengths).sum() * mean,
        length_mean=float(lengths.mean()),
        length_scatter=float(((lengths - lengths.mean()) ** 2).sum()),
    )


def _pieces(embeddings: Matrix) -> Iterator[tuple[int, Vector]]:
    """Number of the first row and float64 rows, some thousands at a time."""
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(f"embeddings have shape {embeddings.shape}, and are no matrix of rows")
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        yield start, np.asarray(embeddings[start : start + _ROWS_AT_ONCE], np.float64)


def _checked_lengths(rows: Vector, first_row: int) -> Vector:
    lengths: Vector = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    bad = (np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0))) + first_row).tolist()
    if bad:
        raise ValueError(
            f"{len(bad)} embeddings are not finite or have length 0; first rows: {bad[:5]}"
        )
    return lengths
