"""Free changes of embeddings: affine maps that a sample of passages decides, without training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ragcun_cli.core.model import principal_directions, random_rotation

NONE = "none"

TRANSFORMS = (
    *(NONE, "mean-removal", "all-but-the-top-1", "all-but-the-top-2", "all-but-the-top-3"),
    *("whitening-0", "whitening-0.25", "whitening-0.5", "whitening-0.75", "whitening-1"),
    "spectral-scaling",
)
"""Names that `fit_transform` knows."""

ROTATIONS = (NONE, "rotation-random", "rotation-itq")
"""Names that `rotated` knows; a rotation moves no distance and no cosine."""

_ITQ_STEPS, _ITQ_ROWS = 50, 5000


@dataclass(frozen=True, eq=False)
class Affine:
    """The map ``x -> (x - mean) @ matrix.T``."""

    name: str
    mean: Tensor
    """``(d,)`` float64."""
    matrix: Tensor
    """``(e, d)`` float64."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """``(n, e)`` of ``(n, d)``, computed in their precision and on their device."""
        return (vectors - self.mean.to(vectors)) @ self.matrix.to(vectors).T


def fit_transform(name: str, sample: Tensor) -> Affine:
    """One of `TRANSFORMS`, fitted in float64.

    ``mean-removal`` takes the mean off, and so do all that follow. ``all-but-the-top-K`` takes off
    what lies along the K directions of the largest variance, too (Mu and Viswanath 2018,
    arXiv:1702.01417). ``whitening-A`` turns to the principal directions, the largest first, and
    divides each by ``eigenvalue ** (A / 2)``, as `linear_head_weights` does; those without variance
    in the sample become 0. ``whitening-0`` only turns.

    ``spectral-scaling`` is after SpecTemp (Li, Eustratiadis and Kanoulas 2026, arXiv:2603.19339),
    and no reproduction of it: there the exponent depends on how many dimensions are kept, here on
    the direction, so that one map serves all widths. Of the eigenvalues ``v_1 >= v_2 ...`` the
    noise floor f is the mean of the last quarter; the knee m is where the scree plot, both axes
    scaled to [0, 1], lies furthest below the line between its ends (Kneedle, Satopaa et al. 2011);
    with ``gamma(k) = log(v_k / f) / log(v_m / f)``, held within [0, 1], direction k is divided by
    ``(v_k / v_m) ** (gamma(k) / 2)``: all up to the knee get the same variance, and what is
    noise keeps its own.

    Args:
        name: of the transform.
        sample: ``(n, d)`` embeddings of passages.
    """
    rows = sample.cpu().double()
    mean = rows.mean(0) * (name != NONE)
    directions, variances, seen = principal_directions(rows - mean)
    kind, _, number = name.rpartition("-")
    matrix = torch.eye(len(mean), dtype=torch.float64)
    if kind == "all-but-the-top":
        matrix -= directions[: int(number)].T @ directions[: int(number)]
    elif kind == "whitening":
        factors = torch.where(seen, variances, 1) ** (-float(number) / 2)
        matrix = directions * (factors * seen)[:, None]
    elif kind == "spectral":
        matrix = directions * (_tempered(variances[seen], len(seen)) * seen)[:, None]
    return Affine(name, mean, matrix)


def _tempered(seen: Tensor, width: int) -> Tensor:
    """``(width,)`` factors of `spectral-scaling`, by the variances above 0."""
    floor = seen[-max(1, len(seen) // 4) :].mean()
    heights = (seen - seen[-1]) / (seen[0] - seen[-1])
    knee = seen[(torch.linspace(1, 0, len(seen), dtype=torch.float64) - heights).argmax()]
    gamma = ((seen / floor).log() / (knee / floor).log()).clamp(0, 1).nan_to_num()
    return torch.nn.functional.pad((seen / knee) ** (-gamma / 2), (0, width - len(seen)))


def rotated(transform: Affine, rotation: str, sample: Tensor) -> Affine:
    """A transform with a rotation of its outputs after it.

    ``rotation-random`` is `random_rotation` with seed 0. ``rotation-itq`` begins there, and 50
    times takes the signs of what it gives and then the rotation that comes closest to them
    (iterative quantisation, Gong and Lazebnik 2011), of the sample's first 5,000 rows.

    Args:
        transform: comes first.
        rotation: one of `ROTATIONS`.
        sample: ``(n, d)`` embeddings of passages, in an order that says nothing of them.
    """
    if rotation == NONE:
        return transform
    turn = random_rotation(len(transform.matrix), seed=0)
    if rotation == "rotation-itq":  # in float64: one sign that rounding turns changes the rest
        rows = transform(sample[:_ITQ_ROWS].cpu().double())
        rows -= rows.mean(0)
        for _ in range(_ITQ_STEPS):
            signs = torch.where(rows @ turn.T > 0, 1.0, -1.0).double()
            left, _, right = torch.linalg.svd(signs.T @ rows)
            turn = left @ right
    name = f"{transform.name} + {rotation}"
    return Affine(name.removeprefix(f"{NONE} + "), transform.mean, turn @ transform.matrix)
