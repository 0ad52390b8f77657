"""How sure a difference between two arms is, where training seeds and queries are both samples.

The unit is the pair of a seed and a query: arms are paired by both. A set of test queries is a
fixed choice; its queries stand for others of that set, its seeds for other trainings. With D[s,k,q]
the difference on query q of set k under seed s, and w_k the weight of a set (they sum to 1):

    A   = s2(D_s) / S                   between seeds, D_s the weighted mean of seed s
    B_k = w_k^2 s2_k / n_k              between queries, of the mean over seeds
    E_k = w_k^2 e_k / (S n_k)           the residual, which A and B both hold once
    V   = max(A + sum B_k - sum E_k, sum B_k)

The degrees of freedom are Satterthwaite's of the same sum, and never fewer than the smallest part
of it has; the interval is that of Student's t.
Sources: Searle, Casella and McCulloch 1992, chapter 4 (two crossed random factors); Satterthwaite
1946. How often it holds the truth: ``benchmarks/coverage.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POWER = 0.8


@dataclass(frozen=True)
class Contrast:
    """A mean difference, and how sure it is, on the scale of the scores."""

    mean: float
    variance: float
    """Of the mean: V."""
    df: float
    """Degrees of freedom of V; infinite where nothing varies."""
    by_seed: tuple[float, ...]
    """The weighted mean over sets of each seed; one value where nothing was trained."""
    seeds_share: float
    """Of V, what more seeds would shrink: max(A - sum E, 0) / V; 0 where nothing varies."""

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.by_seed)

    @property
    def deviation(self) -> float | None:
        """Over seeds (ddof 1); None for one."""
        return None if self.seeds < 2 else float(np.std(self.by_seed, ddof=1))

    def half_width(self, level: float = 0.95) -> float:
        """Of the interval."""
        return t_quantile((1 + level) / 2, self.df) * math.sqrt(self.variance)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of the interval that holds the true mean at this level."""
        half = self.half_width(level)
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Two-sided, below .05 just where 0 lies outside of the 95 % interval.

        1 where no query differs.
        """
        from scipy.special import stdtr

        if self.variance == 0:
            return float(self.mean == 0)
        return float(2 * stdtr(self.df, -abs(self.mean) / math.sqrt(self.variance)))

    @property
    def detectable(self) -> float:
        """The true difference that such an experiment would find, at 5 %, in four of five cases."""
        quantiles = t_quantile(0.975, self.df) + t_quantile(POWER, self.df)
        return quantiles * math.sqrt(self.variance)

    def is_within(self, margin: float) -> bool:
        """Whether it is equivalent to 0: two one-sided tests at 5 % (Schuirmann 1987)."""
        low, high = self.interval(0.9)
        return -margin < low and high < margin


def contrast(differences: Mapping[str, Array], weights: Mapping[str, float]) -> Contrast:
    """The weighted mean over sets of differences, or of scores.

    Args:
        differences: set -> ``(S, n)``, a row for each seed, the same in all sets; one row where
            there is one seed, or where neither arm has any.
        weights: set -> its weight, above 0; they are made to sum to 1.

    Raises:
        ValueError: no set, a set of fewer than two queries, unequal numbers of seeds, a weight that
            is not above 0, or a difference that is not finite.
    """
    names = sorted(differences)
    rows = [np.atleast_2d(np.asarray(differences[name], float)) for name in names]
    _check(names, rows, weights)
    share = np.array([weights[name] for name in names], float)
    share /= share.sum()
    means = np.stack([row.mean(1) for row in rows], axis=-1)  # (S, K)
    over_seeds = [row.mean(0) for row in rows]
    residual = [
        row - mean - own[:, None] + own.mean()
        for row, mean, own in zip(rows, over_seeds, means.T, strict=True)
    ]
    counts = np.array([row.shape[1] for row in rows], float)
    seeds = len(means)
    freedom = np.maximum(seeds - 1, 1) * (counts - 1)
    variance, df, shares = spread(
        means @ share,
        np.array([mean.var(ddof=1) for mean in over_seeds]),
        np.array([(each**2).sum() for each in residual]) / freedom,
        counts=counts,
        weights=share,
    )
    return Contrast(
        mean=float((means @ share).mean()),
        variance=float(variance),
        df=float(df),
        by_seed=tuple((means @ share).tolist()),
        seeds_share=float(shares),
    )


def spread(
    by_seed: Array, between_queries: Array, residual: Array, *, counts: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """V, its degrees of freedom, and the seeds' share of it.

    Args:
        by_seed: ``(..., S)`` weighted means over sets.
        between_queries: ``(..., K)`` variances over queries (ddof 1) of the mean over seeds.
        residual: ``(..., K)`` mean squares of the interaction of seeds and queries.
        counts: ``(K,)`` queries.
        weights: ``(K,)``, their sum 1.

    Returns:
        Three arrays of the leading shape.
    """
    seeds = by_seed.shape[-1]
    of_queries = weights**2 * between_queries / counts
    least = of_queries.sum(-1)
    squares = (of_queries**2 / (counts - 1)).sum(-1)
    whole, whole_squares, of_seeds = least, squares, np.zeros_like(least)
    if seeds > 1:
        a = by_seed.var(-1, ddof=1) / seeds
        twice = weights**2 * residual / (seeds * counts)
        of_seeds = np.maximum(a - twice.sum(-1), 0)
        whole = a + least - twice.sum(-1)
        of_residual = (twice**2 / ((seeds - 1) * (counts - 1))).sum(-1)
        whole_squares = a**2 / (seeds - 1) + squares + of_residual
    variance = np.maximum(whole, least)
    below = np.where(whole >= least * (1 - 1e-9), whole_squares, squares)  # equal but for rounding
    smallest = min(max(seeds - 1, 1), counts.min() - 1)  # which the subtraction can leave behind
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(variance > 0, np.maximum(variance**2 / below, smallest), np.inf)
        share = np.where(variance > 0, of_seeds / variance, 0.0)
    return variance, df, share


def holm(p_values: Mapping[str, float], family: int = 0) -> dict[str, float]:
    """Adjusted p-values of a family: below a level where Holm's procedure rejects at it.

    Source: Holm 1979; adjusted as in Wright 1992.

    Args:
        p_values: name -> p-value.
        family: how many there would be with those that were not measured.
    """
    adjusted: dict[str, float] = {}
    highest, left = 0.0, max(family, len(p_values))
    for name, p_value in sorted(p_values.items(), key=lambda item: item[1]):
        highest = max(highest, min(1.0, left * p_value))
        adjusted[name] = highest
        left -= 1
    return {name: adjusted[name] for name in p_values}


def t_quantile(probability: float, df: float) -> float:
    """Of Student's t; of the normal where its degrees of freedom are infinite."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if math.isinf(df) else stdtrit(df, probability))


def _check(names: list[str], rows: list[Array], weights: Mapping[str, float]) -> None:
    if not names:
        raise ValueError("there are no sets")
    for name, row in zip(names, rows, strict=True):
        if row.ndim != 2 or row.shape[1] < 2 or not len(row):
            raise ValueError(f"set {name!r} has fewer than two queries")
        if len(row) != len(rows[0]):
            raise ValueError(f"sets {names[0]!r} and {name!r} have unequal numbers of seeds")
        if not np.isfinite(row).all():
            raise ValueError(f"set {name!r} has a difference that is not a finite number")
        if not 0 < weights[name] < math.inf:
            raise ValueError(f"the weight of set {name!r} is {weights[name]}, and not above 0")
