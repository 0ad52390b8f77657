"""How evenly embeddings fill their space. Pure functions of one matrix and of its spectrum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]


@dataclass(frozen=True)
class Isotropy:
    """The measures of one matrix of embeddings.

    ``plan_score``, ``participation_ratio`` and ``isoscore`` are one number in three dresses, the
    unevenness of the spectrum; mean cosine, lengths and effective rank are other things.
    """

    texts: int
    dimensions: int
    plan_score: float
    plan_score_of_gaussian: float
    participation_ratio: float
    participation_ratio_corrected: float
    isoscore: float
    effective_rank: float
    mean_cosine: float
    mean_offset: float
    norm_mean: float
    norm_std: float


def measure_isotropy(embeddings: Matrix) -> Isotropy:
    """All measures of ``(n, d)`` embeddings, in float64.

    Raises:
        ValueError: fewer than three rows or two columns, a row that is not finite or has length 0,
            or all rows equal.
    """
    rows = _checked(embeddings)
    n, d = rows.shape
    mean = rows.mean(0)
    centred = rows - mean
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred / n).clip(min=0)  # (d,)
    if eigenvalues.sum() <= 1e-24 * (rows**2).sum() / n:
        raise ValueError("all rows are equal: there is no spread to measure")
    lengths = np.linalg.norm(rows, axis=1)
    return Isotropy(
        texts=n,
        dimensions=d,
        plan_score=plan_score(eigenvalues),
        plan_score_of_gaussian=plan_score_of_gaussian(n, d),
        participation_ratio=participation_ratio(eigenvalues),
        participation_ratio_corrected=corrected_participation_ratio(eigenvalues, n),
        isoscore=isoscore(eigenvalues),
        effective_rank=effective_rank(eigenvalues),
        mean_cosine=mean_cosine(rows),
        mean_offset=float(mean @ mean / (lengths**2).mean()),
        norm_mean=float(lengths.mean()),
        norm_std=float(lengths.std()),
    )


def _checked(embeddings: Matrix) -> NDArray[np.float64]:
    if embeddings.ndim != 2 or embeddings.shape[0] < 3 or embeddings.shape[1] < 2:
        raise ValueError(f"need at least 3 rows and 2 columns, got shape {embeddings.shape}")
    rows = np.asarray(embeddings, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if bad.size:
        raise ValueError(f"rows {bad[:5].tolist()} are not finite")
    zero = np.flatnonzero(~rows.any(1))
    if zero.size:
        raise ValueError(f"rows {zero[:5].tolist()} have length 0: their direction is undefined")
    return rows


def plan_score(eigenvalues: NDArray[np.float64]) -> float:
    """1 - sd / mean of the covariance's eigenvalues, zeros among them (the plan's isotropy).

    Between ``1 - sqrt(d - 1)`` for a single direction and 1 for equal eigenvalues; negative below
    half of the dimensions in use. Equals ``1 - sqrt(d / PR - 1)``. It grows with the number of
    texts whatever the model: read it beside `plan_score_of_gaussian`, at equal n and d.
    """
    return float(1 - eigenvalues.std() / eigenvalues.mean())


def plan_score_of_gaussian(n: int, d: int) -> float:
    """What n rows of N(0, I_d) give for `plan_score`, to first order in its spread.

    ``1 - sqrt((d - 1)(d + 2) / (d m + 2))`` with m = n - 1; the squared term is the exact mean of
    (sd / mean)^2.
    """
    return float(1 - np.sqrt((d - 1) * (d + 2) / (d * (n - 1) + 2)))


def participation_ratio(eigenvalues: NDArray[np.float64]) -> float:
    """(sum l)^2 / sum l^2: how many directions share the variance, from 1 to d."""
    return float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def corrected_participation_ratio(eigenvalues: NDArray[np.float64], n: int) -> float:
    """The participation ratio with the numerator and the denominator unbiased for Gaussian rows.

    Of the order of d for N(0, I_d) whatever n, and above d by chance; heavy tails bias it low.

    Args:
        eigenvalues: of the covariance with denominator n.
        n: rows.
    """
    m = n - 1
    unbiased = eigenvalues * n / m
    trace, square = unbiased.sum(), (unbiased**2).sum()
    numerator = (1 + 1 / m) * trace**2 - 2 / m * square
    denominator = square - trace**2 / m
    return float(numerator / denominator)


def isoscore(eigenvalues: NDArray[np.float64]) -> float:
    """IsoScore (Rudman et al. 2022, arXiv:2108.07344), which equals (PR - 1) / (d - 1): 0 to 1."""
    return (participation_ratio(eigenvalues) - 1) / (len(eigenvalues) - 1)


def effective_rank(eigenvalues: NDArray[np.float64]) -> float:
    """exp of the entropy of the centred singular values' shares (Roy and Vetterli 2007): 1 to d."""
    singular = np.sqrt(eigenvalues)
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def mean_cosine(embeddings: Matrix) -> float:
    """Average cosine over all pairs of different rows, in ``[-1 / (n - 1), 1]``.

    1 for a single direction, 0 when directions cancel (Ethayarajh 2019, arXiv:1909.00512). Blind to
    two opposite bundles, which cancel too. In closed form, so no pairs are sampled.
    """
    n = len(embeddings)
    total = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).sum(0)  # (d,)
    return float((total @ total - n) / (n * (n - 1)))
