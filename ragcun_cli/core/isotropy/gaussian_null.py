"""What chance does to the measures of a spectrum: their spread for a perfectly isotropic Gaussian.

The eigenvalues of n draws of ``N(mu, I_d)`` are those of ``B B^T``, B a bidiagonal matrix of
independent chi variables (Silverstein 1985; Dumitriu and Edelman 2002, arXiv:math-ph/0206043, for
beta = 1): a draw of their first two moments takes 2 d numbers in the place of n d.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ragcun_cli.core.isotropy.moments import Vector
from ragcun_cli.core.isotropy.spectrum import corrected_plan_score, corrected_unevenness

_DRAWS_AT_ONCE = 2**21  # numbers: 16 MiB


def gaussian_participation_ratios(
    texts: int, *, dimensions: int, draws: int, seed: int = 0
) -> Vector:
    """``(draws,)`` participation ratios of as many samples of n draws from ``N(mu, s^2 I_d)``.

    Exact in distribution, deterministic in the seed.

    Args:
        texts: n, at least 3.
        dimensions: d, at least 2.
        draws: how many samples.
        seed: of the chi variables.
    """
    rng = np.random.default_rng(seed)
    short, long = sorted((dimensions, texts - 1))
    at_once = max(1, _DRAWS_AT_ONCE // (2 * short))
    ratios = [
        _ratios(rng, short, long, min(at_once, draws - start)) for start in range(0, draws, at_once)
    ]
    return np.concatenate(ratios)


def _ratios(rng: np.random.Generator, short: int, long: int, draws: int) -> Vector:
    """Of the Wishart matrix with ``long`` degrees of freedom in ``short`` dimensions."""
    diagonal = rng.chisquare(long - np.arange(short), size=(draws, short))
    below = rng.chisquare(short - 1 - np.arange(short - 1), size=(draws, short - 1))
    entries = diagonal.copy()
    entries[:, 1:] += below
    square = (entries**2).sum(1) + 2 * (diagonal[:, :-1] * below).sum(1)
    ratios: Vector = entries.sum(1) ** 2 / square
    return ratios


@cache
def null_intervals(
    texts: int, *, dimensions: int, draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Central intervals of measures for a perfectly isotropic Gaussian at this n and d, by name.

    A value inside says that n texts show no unevenness; it proves none. Of ``plan_score``,
    ``unevenness_corrected`` and ``plan_score_corrected``. Half a second at d = 512.

    Args:
        texts: n, at least 3.
        dimensions: d, at least 2.
        draws: of a simulation; at 10,000 chance moves an end by about 1 % of the width.
        level: share of Gaussians inside, between 0 and 1.
        seed: of the simulation.
    """
    ratios = gaussian_participation_ratios(texts, dimensions=dimensions, draws=draws, seed=seed)
    both = {"texts": texts, "dimensions": dimensions}
    values = {
        "plan_score": 1 - np.sqrt(np.maximum(0, dimensions / ratios - 1)),
        "unevenness_corrected": np.array([corrected_unevenness(r, **both) for r in ratios]),
        "plan_score_corrected": np.array([corrected_plan_score(r, **both) for r in ratios]),
    }
    ends = [(1 - level) / 2, (1 + level) / 2]
    return {name: _pair(np.quantile(drawn, ends)) for name, drawn in values.items()}


def _pair(ends: Vector) -> tuple[float, float]:
    return float(ends[0]), float(ends[1])
