"""The two numerical checks of docs/theory.md, in seconds on one core: python benchmarks/theory.py.

1. The isotropy score of perfectly isotropic Gaussians, drawn and scored by NumPy alone, beside the
   closed formula that ragcun prints (docs/METHOD.md, section 9).
2. SIGReg of batches whose variances are uneven by a known amount, beside the expectation that
   docs/METHOD.md states in section 3.
"""

from statistics import fmean, stdev

import numpy as np
import torch

from ragcun_cli.core.isotropy.gaussian_null import null_intervals
from ragcun_cli.core.isotropy.spectrum import plan_score_of_gaussian
from ragcun_cli.core.objective.sigreg import null_mean, sigreg, unit_directions

TEXTS, DRAWS = (300, 1_000, 3_000), 10
DIMENSIONS = (384, 512)

WIDTH, RATIO = 512, 83
"""K and the participation ratio of docs/METHOD.md's worked line."""
BATCHES = {16: 400, 64: 100, 256: 40, 512: 30}
"""Rows of a batch -> how many are drawn."""
FOURTH = 0.1206
"""Sum over the grid of its weights times t^4 exp(-t^2) / 4."""


def isotropy_null() -> None:
    """Simulated scores, as the original plan computes them, beside the formula."""
    print("1. isotropy score of N(0, I): 1 - sd / mean of the covariance's eigenvalues")
    print(f"   {'n':>5} {'d':>4}  {'formula':>8}  {'simulated':>9}  {'± se':>7}  95 % of Gaussians")
    rng = np.random.default_rng(0)
    for dimensions in DIMENSIONS:
        for texts in TEXTS:
            scores = []
            for _ in range(DRAWS):
                rows = 5 + 3 * rng.standard_normal((texts, dimensions))  # neither moves it
                eigenvalues = np.linalg.eigvalsh(np.cov(rows.T))
                scores.append(1 - eigenvalues.std() / eigenvalues.mean())
            formula = plan_score_of_gaussian(texts, dimensions=dimensions)
            low, high = null_intervals(texts, dimensions=dimensions, draws=2_000)["plan_score"]
            error = stdev(scores) / len(scores) ** 0.5
            print(
                f"   {texts:5,} {dimensions:4}  {formula:8.4f}  {fmean(scores):9.4f}  "
                f"{error:7.4f}  {low:.3f} to {high:.3f}"
            )


def variances(width: int, ratio: float) -> torch.Tensor:
    """``(width,)`` variances that fall exponentially, with mean 1 and this participation ratio."""
    low, high = 1e-4, 1e4
    for _ in range(200):
        middle = (low * high) ** 0.5
        found = torch.exp(-torch.arange(width, dtype=torch.float64) / middle)
        too_even = found.sum() ** 2 / found.square().sum() > ratio
        low, high = (low, middle) if too_even else (middle, high)
    return found / found.mean()


def sensitivity() -> None:
    """SIGReg of even and of uneven batches, as a training logs it: the mean of two sides."""
    print(f"\n2. SIGReg in {WIDTH} dimensions, variances with a participation ratio of {RATIO}")
    print(
        f"   {'batch':>5}  {'formula':>8}  {'simulated':>9}  {'± se':>7}  {'N(0, I)':>8}  "
        f"{'spread':>6}  spreads above N(0, I)"
    )
    scales = variances(WIDTH, RATIO).sqrt().float()
    generator, step = torch.Generator().manual_seed(0), 0
    for rows, batches in BATCHES.items():
        even, uneven = [], []
        for _ in range(batches):
            step += 1
            directions = unit_directions(1024, WIDTH, seed=step)
            sides = torch.randn(2, rows, WIDTH, generator=generator)
            even.append(fmean(float(sigreg(side, directions)) for side in sides))
            uneven.append(fmean(float(sigreg(side * scales, directions)) for side in sides))
        formula = null_mean() + FOURTH * rows * 2 / (WIDTH + 2) * (WIDTH / RATIO - 1)
        error = stdev(uneven) / batches**0.5
        print(
            f"   {rows:5}  {formula:8.4f}  {fmean(uneven):9.4f}  {error:7.4f}  {fmean(even):8.4f}  "
            f"{stdev(even):6.4f}  {(fmean(uneven) - null_mean()) / stdev(even):.1f}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    isotropy_null()
    sensitivity()
