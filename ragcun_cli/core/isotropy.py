"""How evenly embeddings fill their space: measures of one matrix, through its moments."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Isotropy:
    """Measures of ``n`` embeddings in ``d`` dimensions.

    ``plan_score``, ``participation_ratio`` and ``isoscore`` are one number on three scales: how
    even the variances along the principal axes are. All depend on n, as fewer texts look less even:
    compare at equal n and d. The other measures see what that number is blind to: the tail of the
    spectrum, a common offset, the spread of lengths. None sees clusters or a non-Gaussian shape.
    """

    texts: int
    """n."""
    dimensions: int
    """d."""
    plan_score: float
    """``plan_score`` of the covariance, in [1 - sqrt(d - 1), 1]."""
    plan_score_of_gaussian: float
    """What perfectly isotropic ``N(0, I_d)`` would score at this n and d."""
    participation_ratio: float
    """``participation_ratio`` of the covariance, in [1, d]."""
    participation_ratio_corrected: float
    """The same with the bias of n removed; ``inf`` where n texts show no unevenness."""
    isoscore: float
    """``isoscore`` of the covariance, in [0, 1]."""
    effective_rank: float
    """``effective_rank`` of the centred matrix, in [1, d]."""
    mean_cosine: float
    """Average cosine over all pairs of different texts, in [-1 / (n - 1), 1]; not centred."""
    mean_offset: float
    """Share of the mean squared length that is the mean vector, in [0, 1]: 0 centred, 1 a point."""
    norm_mean: float
    """Mean length of an embedding."""
    norm_std: float
    """Population standard deviation of the lengths; 0 on a sphere."""


def measure_isotropy(embeddings: NDArray[np.floating]) -> Isotropy:
    """All measures of one matrix, in float64; memory O(d^2) beside it.

    Args:
        embeddings: ``(n, d)`` with n >= 3, as two texts always lie on a line, and d >= 2.

    Raises:
        ValueError: another shape, a row that is not finite or has length 0 (the first are named),
            or rows that are all equal.
    """
    norms = _checked_lengths(embeddings)
    texts, dimensions = embeddings.shape
    first = np.asarray(embeddings[0], np.float64)
    shifted_total, unit_total = np.zeros(dimensions), np.zeros(dimensions)
    for rows in _blocks(embeddings):
        shifted_total += (rows - first).sum(axis=0)
        unit_total += (rows / np.linalg.norm(rows, axis=1, keepdims=True)).sum(axis=0)
    mean = first + shifted_total / texts
    eigenvalues = _covariance_eigenvalues(embeddings, mean=mean)
    ratio = participation_ratio(eigenvalues)
    return Isotropy(
        texts=texts,
        dimensions=dimensions,
        plan_score=plan_score(eigenvalues),
        plan_score_of_gaussian=plan_score_of_gaussian(texts, dimensions=dimensions),
        participation_ratio=ratio,
        participation_ratio_corrected=corrected_participation_ratio(ratio, texts=texts),
        isoscore=isoscore(eigenvalues),
        effective_rank=effective_rank(eigenvalues),
        mean_cosine=float((unit_total @ unit_total - texts) / (texts * (texts - 1))),
        mean_offset=float(mean @ mean / np.mean(norms**2)),
        norm_mean=float(norms.mean()),
        norm_std=float(norms.std()),
    )


def participation_ratio(eigenvalues: Vector) -> float:
    """``(sum l)^2 / sum l^2`` in [1, d]: 1 for a line, d when all d variances are equal.

    Scale and rotation invariant. Blind to the mean, and to axes of little variance.
    """
    return float(eigenvalues.sum() ** 2 / (eigenvalues @ eigenvalues))


def plan_score(eigenvalues: Vector) -> float:
    """``1 - std(l) / mean(l)`` over all d eigenvalues, zeros included; population std.

    In [1 - sqrt(d - 1), 1]: 1 when all variances are equal, negative once the participation ratio
    is under d / 2, as it is whenever n - 1 < d / 2. Equals ``1 - sqrt(d / PR - 1)``;
    ``(std / mean)^2`` is John's sphericity statistic (John 1971). Depends on n and d: read it
    beside ``plan_score_of_gaussian``. Blind to the mean.
    """
    return float(1 - eigenvalues.std() / eigenvalues.mean())


def plan_score_of_gaussian(texts: int, *, dimensions: int) -> float:
    """``plan_score`` of n draws from ``N(mu, s^2 I_d)``: what perfect isotropy scores at this n.

    ``1 - sqrt((d - 1)(d + 2) / (d m + 2))`` with m = n - 1, under 1 and rising to it with n. The
    root holds the exact expectation of John's statistic; that of the score differs from it by less
    than its spread.
    """
    d, m = dimensions, texts - 1
    return 1 - math.sqrt((d - 1) * (d + 2) / (d * m + 2))


def corrected_participation_ratio(ratio: float, *, texts: int) -> float:
    """The participation ratio with the bias of n draws removed, at least ``ratio``.

    ``b / a``, estimates of ``(tr S)^2`` and ``tr S^2`` that are unbiased for Gaussian embeddings
    (Srivastava 2005), with m = n - 1 and PR = ratio: ``((1 + 1/m) PR - 2/m) / (1 - PR/m)``. Exceeds
    d by chance near isotropy; ``inf`` where PR reaches m, with n texts as even as n texts can be:
    nothing then bounds it from above. Heavy tails lower it.
    """
    m = texts - 1
    # Rounding keeps PR = m from being exact.
    if 1 - ratio / m < 1e-12:
        return math.inf
    return ((1 + 1 / m) * ratio - 2 / m) / (1 - ratio / m)


def isoscore(eigenvalues: Vector) -> float:
    """IsoScore in [0, 1]: 0 for a line, 1 when all variances are equal.

    Rudman et al. 2022, arXiv:2108.07344, whose steps come to ``(PR - 1) / (d - 1)``. Blind as the
    participation ratio is.
    """
    return (participation_ratio(eigenvalues) - 1) / (len(eigenvalues) - 1)


def effective_rank(eigenvalues: Vector) -> float:
    """``exp`` of the entropy of the normalised singular values ``sqrt(l)``, in [1, d].

    Roy and Vetterli 2007, here of the centred matrix. Weighs the tail of the spectrum more than the
    participation ratio does. At most n - 1. Blind to the mean.
    """
    singular = np.sqrt(eigenvalues[eigenvalues > 0])
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _covariance_eigenvalues(embeddings: NDArray[np.floating], *, mean: Vector) -> Vector:
    """``(d,)`` eigenvalues of the covariance, those within rounding of 0 set to 0, none dropped."""
    texts, dimensions = embeddings.shape
    scatter = np.zeros((dimensions, dimensions))
    for rows in _blocks(embeddings):
        centred = rows - mean
        scatter += centred.T @ centred
    eigenvalues = np.linalg.eigvalsh(scatter / (texts - 1))
    if eigenvalues[-1] <= 0:
        raise ValueError("all embeddings are equal, so they have no directions to measure")
    rounding = dimensions * np.finfo(np.float64).eps * eigenvalues[-1]
    return np.where(eigenvalues > rounding, eigenvalues, 0.0)


def _checked_lengths(embeddings: NDArray[np.floating]) -> Vector:
    if embeddings.ndim != 2 or embeddings.shape[0] < 3 or embeddings.shape[1] < 2:
        raise ValueError(
            f"embeddings have shape {embeddings.shape}; isotropy needs at least three texts "
            "and two dimensions"
        )
    lengths = np.concatenate([np.linalg.norm(rows, axis=1) for rows in _blocks(embeddings)])
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0))).tolist()
    if bad:
        raise ValueError(
            f"{len(bad)} embeddings are not finite or have length 0; first rows: {bad[:5]}"
        )
    return lengths


def _blocks(embeddings: NDArray[np.floating]) -> Iterator[Vector]:
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        yield np.asarray(embeddings[start : start + _ROWS_AT_ONCE], np.float64)
