"""How far a measure would move with other texts, and how it grows with their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.isotropy.moments import BLOCKS, Moments, Vector, merged
from ragcun_cli.core.isotropy.spectrum import Isotropy, isotropy_of

HALVINGS = BLOCKS - 1
_T_QUANTILE = 2.0930240544  # 97.5 % of Student's t with 19 degrees of freedom
_FEWEST_ROWS = 3


def balanced_splits() -> NDArray[np.int8]:
    """``(19, 20)`` signs: each row puts ten blocks into one half, each two blocks meet in nine.

    The rows of a Hadamard matrix of order 20 (Paley 1933, from the squares modulo 19) but the one
    of ones.
    """
    squares = {number * number % HALVINGS for number in range(1, HALVINGS)}
    first = [1 if place in squares else -1 for place in range(HALVINGS)]
    return np.array([[*np.roll(first, row), 1] for row in range(HALVINGS)], np.int8)


def half_differences(blocks: Sequence[Moments]) -> dict[str, Vector] | None:
    """Measure -> ``(19,)`` halves of the differences between two halves of the texts.

    By balanced half-samples (McCarthy 1969): for a mean, their mean square is its squared standard
    error, as its usual estimate from 20 blocks has it. As both halves are as large, what a measure
    owes to n cancels. None where a half would have too few texts to be measured: under 20 blocks,
    or under two texts in one of them.
    """
    if len(blocks) < BLOCKS or min(block.count for block in blocks) < 2:
        return None
    rows: list[dict[str, float]] = []
    for signs in balanced_splits():
        halves = [
            asdict(
                isotropy_of(merged([b for b, s in zip(blocks, signs, strict=True) if s == sign]))
            )
            for sign in (1, -1)
        ]
        rows.append({name: (halves[0][name] - halves[1][name]) / 2 for name in halves[0]})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def half_width(differences: Vector) -> float:
    """Half the width of the 95 % interval that half-differences speak for.

    Student's t for 19 splits times the root of their mean square. For the difference of two models
    on the same texts, those of one less those of the other: what both share cancels. Texts stand
    for others drawn as they were; blind to other data sets, to training seeds and to what a measure
    owes to n.
    """
    return _T_QUANTILE * math.sqrt(float(np.mean(differences**2)))


def curve(blocks: Sequence[Moments]) -> list[Isotropy]:
    """The measures of the first block, the first two, ... all: how they depend on n.

    Those of fewer than three texts, or of texts that are all equal, are left out.
    """
    sums: list[Moments] = []
    for block in blocks:
        sums.append(sums[-1].merge(block) if sums else block)
    large = [part for part in sums if part.count >= _FEWEST_ROWS and not part.all_equal]
    return [isotropy_of(part) for part in large]
