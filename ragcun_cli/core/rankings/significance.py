"""How often chance alone makes a difference as large, from paired differences by query.

A group is a data set, or a part of one: the difference is the weighted mean over groups of each
group's mean, so that a data set weighs the same however many queries or parts it has. Blind to
other training seeds: `contrasts` is not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.draw import SIGNS, generator

_EIGHT_SIGNS = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
"""``(256, 8)``, a row for each byte."""


def randomisation_p_value(
    differences: Mapping[str, Sequence[float]],
    *,
    weights: Mapping[str, float] | None = None,
    seed: int,
    rounds: int = 10_000,
) -> float:
    """Two-sided p-value of the mean difference under swapping the systems, query by query.

    In [1 / (1 + rounds), 1]: ``(1 + hits) / (1 + rounds)``, where a hit is a round of random signs
    whose mean difference is at least as far from 0. 1 when no query differs.
    Null hypothesis: the systems are interchangeable on every query. Source: Smucker, Allan and
    Carterette 2007 (Fisher's randomisation test); the ones: Phipson and Smyth 2010,
    arXiv:1603.05766.

    Args:
        differences: group -> one difference a query.
        weights: group -> its weight, above 0; none means that all weigh the same.
        seed: of the signs.
        rounds: how many; their number bounds the p-value from below.

    Raises:
        ValueError: no groups, a group without queries, a difference that is not finite, no rounds,
            or a weight that is not above 0.
    """
    groups = _checked(differences, rounds=rounds)
    share = _shares(groups, weights)
    flipped = np.zeros(rounds)
    for name, values in groups.items():
        rng = generator(SIGNS, name, seed=seed)
        padded = np.pad(values, (0, -len(values) % 8)).reshape(-1, 8)
        for eight in padded * (share[name] / len(values)):
            flipped += (_EIGHT_SIGNS @ eight)[rng.integers(0, 256, size=rounds, dtype=np.uint8)]
    size = math.fsum(share[name] * np.abs(values).mean() for name, values in groups.items())
    # Rounds that equal the observed value up to rounding are hits.
    observed = abs(_statistic(groups, share)) - 1e-12 * size
    return float((1 + np.count_nonzero(np.abs(flipped) >= observed)) / (1 + rounds))


def _checked(
    differences: Mapping[str, Sequence[float]], *, rounds: int
) -> dict[str, NDArray[np.float64]]:
    """The groups in order of name, each with its values in order, so that no order is left."""
    if rounds < 1:
        raise ValueError(f"{rounds} rounds of resampling were asked for; at least 1 is needed")
    if not differences:
        raise ValueError("there are no groups of differences")
    groups = {name: np.sort(np.array(differences[name], float)) for name in sorted(differences)}
    for name, values in groups.items():
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(f"group {name!r} has no differences")
        if not np.isfinite(values).all():
            raise ValueError(f"group {name!r} has a difference that is not a finite number")
    return groups


def _shares(groups: Iterable[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """The weights, made to sum to 1."""
    raw = {name: 1.0 if weights is None else weights[name] for name in groups}
    if not all(0 < weight < math.inf for weight in raw.values()):
        raise ValueError(f"weights have to be above 0 and finite, got {raw}")
    total = math.fsum(raw.values())
    return {name: weight / total for name, weight in raw.items()}


def _statistic(groups: Mapping[str, NDArray[np.float64]], share: Mapping[str, float]) -> float:
    return math.fsum(share[name] * math.fsum(v) / len(v) for name, v in groups.items())
