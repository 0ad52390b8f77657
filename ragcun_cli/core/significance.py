"""Whether a difference between two systems on the same queries is more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A difference and where it would lie for other queries of the same kind."""

    difference: float
    low: float
    high: float
    level: float


def paired_interval(
    differences: Mapping[str, Sequence[float]],
    *,
    seed: int,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of the mean over sets of each set's mean paired difference.

    Queries are drawn with replacement within each set, so that a set's weight in the average is the
    same whatever its number of queries (Sakai 2006, SIGIR, for the bootstrap in IR evaluation). The
    order of the mapping does not matter. Blind to the choice of sets and of training seeds.

    Args:
        differences: set -> one difference for each query.
        seed: of the resampling.
        resamples: how many.
        level: share of the resamples inside the interval.

    Raises:
        ValueError: no sets, or a set without queries.
    """
    if not differences or not all(len(values) for values in differences.values()):
        raise ValueError("an interval needs at least one set, and queries in every set")
    generator = np.random.default_rng(seed)
    totals = np.zeros(resamples)
    means = []
    for name in sorted(differences):
        values = np.asarray(differences[name], dtype=np.float64)
        means.append(values.mean())
        totals += _resampled_means(values, resamples, generator)
    tails = np.quantile(totals / len(differences), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(means)), float(tails[0]), float(tails[1]), level)


def _resampled_means(
    values: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    at_once = max(1, _DRAWS_AT_ONCE // len(values))
    blocks = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        blocks.append(values[generator.integers(len(values), size=(rows, len(values)))].mean(1))
    return np.concatenate(blocks)
