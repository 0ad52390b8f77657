"""How well the score of a query's best hit tells whether that hit is relevant."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragcun_cli.core.draw import FOLD, number_of

FOLDS = 5
RELIABILITY_BINS = 10
FEWEST_QUERIES = 20
"""Two a bin; with fewer there is no curve to speak of."""

_MOST_STEPS = 100
_RIDGE = 1e-9  # keeps Newton's matrix regular where a fold's scores are all equal


@dataclass(frozen=True)
class Bin:
    """A tenth of the queries, those of like predicted probability."""

    predicted: float
    """Mean probability that was predicted."""
    observed: float
    """Share whose best hit is relevant."""
    count: int


@dataclass(frozen=True)
class Calibration:
    """What the score of the best hit says of its relevance, over queries.

    Where it cannot be measured, ``reason`` says why, ``curve`` is empty and all measures are None.
    """

    queries: int
    relevant: int
    """Queries whose best hit is relevant."""
    reason: str | None = None
    """Why nothing is measured; None where it is."""
    curve: tuple[Bin, ...] = ()
    """Reliability curve, in rising order of probability."""
    ece: float | None = None
    """Expected calibration error, in [0, 1], 0 best."""
    brier: float | None = None
    """Mean squared error of the probabilities, in [0, 1], 0 best."""
    brier_of_base_rate: float | None = None
    """That of predicting the share of relevant hits for every query: a score that knows more
    than chance lies below it."""
    aurc: float | None = None
    """Area under the risk-coverage curve, in [0, 1], 0 best."""
    aurc_random: float | None = None
    """Its expected value when queries are ordered by chance: the share of wrong best hits."""
    aurc_best: float | None = None
    """Its value when all right hits score above all wrong ones."""
    auroc: float | None = None
    """Chance that a right hit scores above a wrong one, ties counting half: 1 best, 0.5 chance."""


def calibration(
    scores: ArrayLike, relevant: ArrayLike, *, folds: ArrayLike, bins: int = RELIABILITY_BINS
) -> Calibration:
    """Reliability curve, ECE, Brier score, AURC and AUROC of the best hits' scores.

    Probabilities are Platt's (1999), fitted on the other folds, so that no query is predicted by a
    fit that saw it. ECE is ``sum_b (n_b / n) |observed_b - predicted_b|`` (Naeini et al. 2015; Guo
    et al. 2017, eq. 3), here over bins of equal count, where Guo has bins of equal width. Chance
    alone makes it about ``sqrt(2 p (1 - p) bins / (pi n))`` for probabilities p that are right, so
    compare it at equal n. Brier 1950: ``mean (p - y)^2``.
    AURC is the mean over k of the share of wrong hits among the k highest scores: Geifman and
    El-Yaniv 2017 (risk and coverage), Geifman et al. 2019, arXiv:1805.08206 (the area); it takes
    the scores as they are. Queries of equal score or probability stand for their mean, so the order
    of the queries is without effect. Blind to all hits but the first, and to scales that differ
    between data sets: give it the queries of one.

    Args:
        scores: ``(n,)``, higher is better, on any scale, such as minus a distance.
        relevant: ``(n,)`` of 0 and 1: whether the best hit is relevant. Leave out queries that have
            no hit.
        folds: ``(n,)`` whole numbers, two different ones at least; see `fold_numbers`.
        bins: of the curve; with fewer queries than bins would need, nothing is measured.

    Raises:
        ValueError: lengths differ, a score is not finite, a relevance is neither 0 nor 1, or there
            is a single fold.
    """
    x, y, fold = _checked(scores, relevant, folds)
    hits = int(y.sum())
    if (reason := _reason(x, hits=hits, fewest=max(FEWEST_QUERIES, 2 * bins))) is not None:
        return Calibration(queries=len(x), relevant=hits, reason=reason)
    if len(np.unique(fold)) < 2:
        raise ValueError("all queries are in one fold; none is left to fit on")
    predicted = np.empty(len(x))
    for number in np.unique(fold):
        held_out = fold == number
        centre, spread = x[~held_out].mean(), x[~held_out].std() or 1.0
        slope, offset = platt_fit((x[~held_out] - centre) / spread, y[~held_out])
        predicted[held_out] = _sigmoid(slope * (x[held_out] - centre) / spread + offset)
    curve = _reliability(predicted, y, bins=bins)
    share = hits / len(x)
    best = np.maximum(0, np.arange(1, len(x) + 1) - hits) / np.arange(1, len(x) + 1)
    return Calibration(
        queries=len(x),
        relevant=hits,
        curve=curve,
        ece=sum(abs(part.observed - part.predicted) * part.count for part in curve) / len(x),
        brier=float(np.mean((predicted - y) ** 2)),
        brier_of_base_rate=share * (1 - share),
        aurc=_aurc(x, 1 - y),
        aurc_random=1 - share,
        aurc_best=float(best.mean()),
        auroc=_auroc(x, y),
    )


def fold_numbers(ids: Iterable[str], *, folds: int = FOLDS) -> NDArray[np.int64]:
    """``(n,)`` fold of each query, 0 to ``folds - 1``, by the digest of its id alone."""
    return np.array([number_of(FOLD, name) % folds for name in ids], np.int64)


def platt_fit(scores: NDArray[np.float64], relevant: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of ``p = 1 / (1 + exp(-(slope x + offset)))`` by maximum likelihood.

    Targets are Platt's, ``(n1 + 1) / (n1 + 2)`` and ``1 / (n0 + 2)`` (1999, section 2.2), so that
    the fit is finite when scores part the classes, or there is one class alone. Newton's method
    with halved steps, as Lin, Lin and Weng 2007 solve it; a ridge of 1e-9 on both parameters makes
    the slope 0 where all scores are equal.

    Args:
        scores: ``(n,)``, n >= 1, of about unit spread.
        relevant: ``(n,)`` of 0 and 1.

    Raises:
        ArithmeticError: no minimum was found, as with scores far from unit spread.
    """
    hits = relevant.sum()
    misses = len(relevant) - hits
    targets = np.where(relevant > 0, (hits + 1) / (hits + 2), 1 / (misses + 2))
    columns = np.stack([scores, np.ones(len(scores))], axis=1)

    def loss(weights: NDArray[np.float64]) -> float:
        logits = columns @ weights
        likelihood = np.logaddexp(0, logits) - targets * logits
        return float(likelihood.mean() + _RIDGE / 2 * weights @ weights)

    weights = np.array([0.0, np.log((hits + 1) / (misses + 1))])
    for _ in range(_MOST_STEPS):
        p = _sigmoid(columns @ weights)
        gradient = columns.T @ (p - targets) / len(scores) + _RIDGE * weights
        if np.abs(gradient).max() < 1e-10:
            return float(weights[0]), float(weights[1])
        curvature = (columns.T * (p * (1 - p))) @ columns / len(scores) + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        before = loss(weights)
        while loss(weights - step) > before + 1e-15 and np.abs(step).max() > 1e-12:
            step /= 2
        weights = weights - step
    raise ArithmeticError(f"the logistic fit did not settle in {_MOST_STEPS} steps")


def _checked(
    scores: ArrayLike, relevant: ArrayLike, folds: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    x, y, fold = np.asarray(scores, float), np.asarray(relevant, float), np.asarray(folds, np.int64)
    if x.ndim != 1 or not x.shape == y.shape == fold.shape:
        raise ValueError(
            f"scores, relevance and folds of shapes {x.shape}, {y.shape} and {fold.shape}; each "
            "has to hold one value a query"
        )
    if not np.isfinite(x).all():
        raise ValueError("a score is not a finite number")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("relevance has to be 0 or 1")
    return x, y, fold


def _reason(scores: NDArray[np.float64], *, hits: int, fewest: int) -> str | None:
    if len(scores) < fewest:
        return f"{len(scores)} queries with a hit; at least {fewest} are needed"
    if hits == 0:
        return "no query has a relevant best hit"
    if hits == len(scores):
        return "every query has a relevant best hit"
    if np.ptp(scores) == 0:
        return "all best hits have the same score"
    return None


def _reliability(
    predicted: NDArray[np.float64], relevant: NDArray[np.float64], *, bins: int
) -> tuple[Bin, ...]:
    order = predicted.argsort(kind="stable")
    observed = _shared(predicted, relevant)[order]
    parts = zip(np.array_split(predicted[order], bins), np.array_split(observed, bins), strict=True)
    return tuple(Bin(float(p.mean()), float(y.mean()), len(p)) for p, y in parts)


def _aurc(scores: NDArray[np.float64], wrong: NDArray[np.float64]) -> float:
    risks = _shared(scores, wrong)[(-scores).argsort(kind="stable")]
    return float(np.mean(np.cumsum(risks) / np.arange(1, len(risks) + 1)))


def _auroc(scores: NDArray[np.float64], relevant: NDArray[np.float64]) -> float:
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (sizes.cumsum() - (sizes - 1) / 2)[group]  # from 1, the mean of those that tie
    hits = relevant.sum()
    above = ranks[relevant > 0].sum() - hits * (hits + 1) / 2  # Mann and Whitney's U
    return float(above / (hits * (len(scores) - hits)))


def _shared(keys: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values, each the mean of those with an equal key: what a random order of ties gives."""
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    means: NDArray[np.float64] = (np.bincount(group, weights=values) / sizes)[group]
    return means


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -logits))
