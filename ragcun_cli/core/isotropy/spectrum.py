"""How evenly embeddings fill their space: measures of their moments, and of the spectrum.

All depend on n, as fewer texts look less even, and on d: compare at equal n and d alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.core.errors import SettingsError
from ragcun_cli.core.isotropy.moments import Moments, Vector


@dataclass(frozen=True)
class Isotropy:
    """Measures of ``n`` embeddings in ``d`` dimensions.

    ``plan_score``, ``participation_ratio`` and ``isoscore`` are one number on three scales: how
    even the variances along the principal axes are. The other measures see what that number is
    blind to: the tail of the spectrum, a common offset, the spread of lengths. None sees clusters
    or a non-Gaussian shape. No measure moves with a rotation or with the order of the rows; of a
    scale, only the lengths; of a translation, the last five.
    """

    texts: int
    """n."""
    dimensions: int
    """d."""
    plan_score: float
    """``plan_score`` of the covariance, in [1 - sqrt(d - 1), 1]."""
    plan_score_of_gaussian: float
    """What perfectly isotropic ``N(0, I_d)`` would score at this n and d."""
    unevenness_corrected: float
    """``corrected_unevenness``, in [-1, d - 1]: 0 in the mean for a Gaussian at any n."""
    plan_score_corrected: float
    """``corrected_plan_score``, at most 1."""
    participation_ratio: float
    """``participation_ratio`` of the covariance, in [1, d]."""
    participation_ratio_corrected: float
    """The same with the bias of n removed; ``inf`` where n texts show no unevenness."""
    isoscore: float
    """``isoscore`` of the covariance, in [0, 1]."""
    effective_rank: float
    """``effective_rank`` of the centred matrix, in [1, d]."""
    mean_cosine: float
    """``mean_cosine`` over all pairs of different texts, in [-1 / (n - 1), 1]; not centred."""
    mean_offset: float
    """Share of the mean squared length that is the mean vector, in [0, 1]: 0 centred, 1 a point."""
    norm_mean: float
    """Mean length of an embedding."""
    norm_std: float
    """Population standard deviation of the lengths; 0 on a sphere."""
    norm_spread: float
    """``norm_std / norm_mean``: about ``sqrt(1 / (2 d))`` for a Gaussian. Blind to directions."""


def measure_isotropy(embeddings: NDArray[np.floating]) -> Isotropy:
    """All measures of one matrix, in float64.

    Args:
        embeddings: ``(n, d)`` with n >= 3, as two texts always lie on a line, and d >= 2.

    Raises:
        ValueError: another shape, a row that is not finite or has length 0 (the first are named),
            or rows that are all equal.
    """
    return isotropy_of(Moments.of(embeddings))


def isotropy_of(moments: Moments) -> Isotropy:
    """All measures of rows of which the moments are known.

    Raises:
        ValueError: under three rows or two dimensions, or rows that are all equal.
    """
    texts, dimensions = moments.count, moments.dimensions
    eigenvalues = covariance_eigenvalues(moments)
    ratio = participation_ratio(eigenvalues)
    norm_std = math.sqrt(moments.length_scatter / texts)
    return Isotropy(
        texts=texts,
        dimensions=dimensions,
        plan_score=plan_score(eigenvalues),
        plan_score_of_gaussian=plan_score_of_gaussian(texts, dimensions=dimensions),
        unevenness_corrected=corrected_unevenness(ratio, texts=texts, dimensions=dimensions),
        plan_score_corrected=corrected_plan_score(ratio, texts=texts, dimensions=dimensions),
        participation_ratio=ratio,
        participation_ratio_corrected=corrected_participation_ratio(ratio, texts=texts),
        isoscore=isoscore(eigenvalues),
        effective_rank=effective_rank(eigenvalues),
        mean_cosine=mean_cosine(moments),
        mean_offset=float(moments.mean @ moments.mean) / moments.mean_square,
        norm_mean=moments.length_mean,
        norm_std=norm_std,
        norm_spread=norm_std / moments.length_mean,
    )


def covariance_eigenvalues(moments: Moments) -> Vector:
    """``(d,)`` ascending eigenvalues of the covariance, none dropped.

    Those within rounding of 0 are set to 0, of which there are d - n + 1 at least.

    Raises:
        SettingsError: under three rows or two dimensions, or rows that are all equal.
    """
    if moments.count < 3 or moments.dimensions < 2:
        raise SettingsError(
            f"{moments.count} texts in {moments.dimensions} dimensions; isotropy needs at least "
            "three texts and two dimensions"
        )
    if moments.all_equal:
        raise SettingsError("all embeddings are equal, so they have no directions to measure")
    eigenvalues = np.linalg.eigvalsh(moments.scatter / (moments.count - 1))
    rounding = moments.dimensions * np.finfo(np.float64).eps * eigenvalues[-1]
    return np.where(eigenvalues > rounding, eigenvalues, 0.0)


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


def corrected_unevenness(ratio: float, *, texts: int, dimensions: int) -> float:
    """``(std / mean)^2`` of the eigenvalues with the bias of n draws removed, in [-1, d - 1].

    ``d a / b - 1 = d / PR_bc - 1`` with a and b as for `corrected_participation_ratio`, the
    estimates of ``tr S^2`` and ``(tr S)^2``: 0 in the mean for ``N(mu, s^2 I)`` at any n, where
    John's statistic is ``(d - 1)(d + 2) / (d m + 2)``; below 0 by chance. 0 for exact isotropy,
    d - 1 for a line. Heavy tails raise it. Blind to the mean.
    """
    return dimensions / corrected_participation_ratio(ratio, texts=texts) - 1


def corrected_plan_score(ratio: float, *, texts: int, dimensions: int) -> float:
    """``1 - sqrt(max(0, corrected_unevenness))``, the plan's score without the bias of n.

    In [1 - sqrt(d - 1), 1]. The root makes chance large: at n = 1000 and d = 512 a perfect Gaussian
    has 1 in half of all draws and 0.94 in others, so read it beside its interval under a Gaussian
    (``gaussian_null.null_intervals``). Blind as `corrected_unevenness` is.
    """
    uneven = corrected_unevenness(ratio, texts=texts, dimensions=dimensions)
    return 1 - math.sqrt(max(0.0, uneven))


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


def mean_cosine(moments: Moments) -> float:
    """Average cosine over all pairs of different rows, in [-1 / (n - 1), 1].

    1 for a single direction, 0 when directions cancel (Ethayarajh 2019, arXiv:1909.00512). Scale
    and rotation invariant, not centred. Blind to two opposite bundles, which cancel too. Closed
    form: ``(|sum of unit rows|^2 - n) / (n (n - 1))``, so no pairs are sampled.
    """
    texts, total = moments.count, moments.unit_total
    return float((total @ total - texts) / (texts * (texts - 1)))
