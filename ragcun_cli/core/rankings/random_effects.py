"""What a difference is over sets in general, where the sets are a sample too.

With y_k the mean on set k, v_k the whole variance of y_k, seeds and queries, and c the part of it
that all sets share, because the same trainings were tested on each:

    c     = max(mean over pairs of sets of the covariance over seeds of their seed means, 0) / S
    w_k   = 1 / (v_k + tau^2), p_k = w_k / sum w
    tau^2 : sum w_k (y_k - mean)^2 + c (sum w - sum w^2 / sum w) = K - 1, or 0
    V     = max(sum p_k (y_k - mean)^2 / (K - 1), sum p_k^2 (v_k + tau^2 - c)) + c

tau^2 is Paule and Mandel's, not DerSimonian and Laird's: theirs weighs a set of 13,000 queries 200
times one of 50 however much sets differ, so that a few large ones decide (Veroniki et al. 2016
compare them). A shift of all sets does not show in the squares around their mean. The v_k hold it,
so c is taken out of what the squares are compared with, and is added once, at the end.

The first term of V is Hartung and Knapp's. It would be below what the v_k alone imply where sets
agree by luck: hence the second (the guard of Röver, Knapp and Friede 2015, there max(1, q)). With
Paule and Mandel's tau^2 the second is larger only where tau^2 is 0.

The degrees of freedom are Satterthwaite's, of K - 1 for the first part and S - 1 for c. One seed is
blind to training noise.

How often it holds the truth: the last table of ``benchmarks/coverage.py``.

Sources: Paule and Mandel 1982, DerSimonian and Kacker 2007 (tau^2); Hartung and Knapp 2001, Sidik
and Jonkman 2002 (V); Satterthwaite 1946; Higgins, Thompson and Spiegelhalter 2009 (prediction).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ragcun_cli.core.rankings.contrasts import Array


@dataclass(frozen=True)
class RandomEffects:
    """The mean of all sets of this kind, and how sure it is, on the scale of the sets' means."""

    mean: float
    variance: float
    """Of the mean: V, c included."""
    df: float
    """Degrees of freedom of V: at least the smaller of K - 1 and S - 1."""
    between: float
    """tau^2, the variance of the true means of sets; 0 where they differ no more than by chance."""
    common: float | None
    """c, of V what sets share through their seeds; None for one seed, where it is not measured."""
    sets: int
    """How many there are: K."""

    def interval(self) -> tuple[float, float]:
        """The ends of the interval that holds the true mean at 95 %."""
        return self._around(self.variance, self.df)

    def prediction(self) -> tuple[float, float]:
        """The ends of the interval that holds the true mean of one new set at 95 %.

        Its variance is tau^2 + V, its degrees of freedom K - 2 (Higgins, Thompson and Spiegelhalter
        2009), or those of V where they are fewer. Very wide for three sets.
        """
        return self._around(self.between + self.variance, min(self.sets - 2, self.df))

    def _around(self, variance: float, df: float) -> tuple[float, float]:
        from scipy.special import stdtrit

        half = float(stdtrit(df, 0.975)) * math.sqrt(variance)
        return self.mean - half, self.mean + half


def random_effects(seed_means: Array, variances: Array) -> RandomEffects:
    """The random-effects summary over sets.

    Args:
        seed_means: ``(S, K)``, the mean of each seed on each set; ``(K,)`` or one row where there
            is one seed or none.
        variances: ``(K,)``, the whole variance of each set's mean over seeds, that of its own
            contrast: with what it shares with other sets. A set on which nothing varies counts as
            being as sure as the surest other.

    Raises:
        ValueError: fewer than three sets, unequal numbers of means and variances, a value that is
            not finite, or a variance below 0.
    """
    rows = np.atleast_2d(np.asarray(seed_means, float))
    within = np.asarray(variances, float)
    _check_sets(rows, within)
    seeds, sets = rows.shape
    means = rows.mean(0)
    common = _common(rows) if seeds > 1 else None
    shared = common or 0.0
    within = np.where(within > 0, within, min(within[within > 0], default=0.0))
    between = _between(means, within, shared)
    shares = _shares(within + between)
    mean, spread = hartung_knapp(means, shares)
    own = max(spread, float(shares**2 @ (within + between - shared)))
    below = own**2 / (sets - 1) + shared**2 / max(seeds - 1, 1)
    return RandomEffects(
        mean=mean,
        variance=own + shared,
        df=(own + shared) ** 2 / below if below else sets - 1.0,
        between=between,
        common=common,
        sets=sets,
    )


def hartung_knapp(means: Array, shares: Array) -> tuple[float, float]:
    """The weighted mean and its variance after Hartung and Knapp 2001, with K - 1 degrees.

    Args:
        means: ``(K,)``.
        shares: ``(K,)`` weights, inverse to the variances of the means, their sum 1.
    """
    mean = float(shares @ means)
    return mean, float(shares @ (means - mean) ** 2) / (len(means) - 1)


def _shares(variances: Array) -> Array:
    weights = 1 / variances if variances.all() else np.ones_like(variances)
    shares: Array = weights / weights.sum()
    return shares


def _common(rows: Array) -> float:
    pairs = np.cov(rows.T)[np.triu_indices(rows.shape[1], 1)]
    return max(float(pairs.mean()), 0.0) / len(rows)


def _between(means: Array, within: Array, common: float) -> float:
    from scipy.optimize import brentq

    def excess(between: float) -> float:
        weights = 1 / (within + between)
        total = weights.sum()
        mean = weights @ means / total
        squares = weights @ (means - mean) ** 2
        return float(squares + common * (total - weights @ weights / total) - (len(means) - 1))

    most = 2 * len(means) * (float(means.var()) + common) / (len(means) - 1)
    least = 1e-12 * most
    if least == 0 or excess(least) <= 0:
        return 0.0
    return float(brentq(excess, least, most, xtol=least))


def _check_sets(rows: Array, within: Array) -> None:
    if rows.ndim != 2 or not len(rows) or rows.shape[1] < 3:
        raise ValueError("fewer than three sets say nothing of others")
    if within.shape != rows.shape[1:]:
        raise ValueError(f"{rows.shape[1]} sets have {within.size} variances")
    if not (np.isfinite(rows).all() and np.isfinite(within).all()):
        raise ValueError("a mean or a variance is not a finite number")
    if (within < 0).any():
        raise ValueError(f"a variance is {within.min()}, below 0")
