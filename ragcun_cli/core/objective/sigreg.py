"""SIGReg: how far embeddings are from N(0, I), by the Epps-Pulley test on random directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ragcun_cli.core.collective import mean_over_ranks, world_size

_ELEMENTS_AT_ONCE = 2**20  # of the projections, as complex numbers: 8 MiB


def unit_directions(count: int, dimensions: int, *, seed: int) -> Tensor:
    """``(dimensions, count)`` directions, uniform on the sphere, from a CPU generator of their own.

    Neither the device nor the rank nor the state of torch's global generator changes them.
    """
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(dimensions, count, generator=generator), dim=0)


def sigreg(
    embeddings: Tensor,
    directions: Tensor,
    *,
    knots: int = 17,
    t_max: float = 3.0,
    scaled_by_batch: bool = True,
) -> Tensor:
    """Mean Epps-Pulley statistic of the embeddings' projections against N(0, 1).

    For each direction, ``n * integral |mean_j exp(i t x_j) - exp(-t^2/2)|^2 exp(-t^2/2) dt`` by the
    trapezoid rule on ``[0, t_max]``, doubled for the negative half (SIGReg, LeJEPA: Balestriero and
    LeCun 2025, arXiv:2511.08544, with the weight and the grid of the authors' library). The paper's
    17 knots on [-5, 5] are 9 on [0, 5]. In fp32, or fp64 for embeddings in it, under autocast too;
    n counts the rows of all ranks. The order of the rows does not change a bit of it.

    About `null_mean` for N(0, I) whatever n; `collapse_value` n when all rows are 0; blind to
    anisotropy much finer than n can show.

    Args:
        embeddings: ``(n, d)``.
        directions: ``(d, m)`` unit columns.
        knots: points on ``[0, t_max]``, odd.
        t_max: end of the integration range.
        scaled_by_batch: keep the factor n.

    Returns:
        ``()``, at least 0.
    """
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        rows = rows[rows.detach()[:, 0].argsort()]
        step = t_max / (knots - 1)
        seen = _CharacteristicFunction.apply(rows, directions.to(rows), step, knots - 1)  # type: ignore[no-untyped-call]
        seen = mean_over_ranks(seen)  # (knots - 1, m); the first knot, t = 0, has no error
        times, weights = _grid(knots, t_max)
        gaussian = torch.exp(-(times**2) / 2).to(rows)[:, None]
        errors = (seen.real - gaussian) ** 2 + seen.imag**2
        statistic = (weights.to(rows) @ errors).mean()
    return statistic * (len(rows) * world_size()) if scaled_by_batch else statistic


@torch.no_grad()
def unbiased_sigreg(
    embeddings: Tensor, directions: Tensor, *, knots: int = 17, t_max: float = 3.0
) -> float:
    """How far the distribution behind the embeddings is from N(0, I): 0 for N(0, I) at any n.

    `sigreg` without its factor n, with the square of the characteristic function of each slice
    estimated without bias: ``(n |f|^2 - 1) / (n - 1)`` in the place of ``|f|^2``. So values at
    different n compare. 0 to `collapse_value`, which rows of length 1 come close to in many
    dimensions (0.399 at 512), and above it for rows far from 0; below 0 by chance, with a spread of
    about 0.04 / n at 512 dimensions and 1,024 directions. Depends on the scale. Rotations move it
    by what other directions would. Blind to anisotropy that random directions average out. Of one
    process alone.

    Args:
        embeddings: ``(n, d)`` with n >= 2.
        directions: ``(d, m)`` unit columns.
        knots: points on ``[0, t_max]``, odd.
        t_max: end of the integration range.
    """
    rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    rows = rows[rows[:, 0].argsort()]
    times, weights = _grid(knots, t_max)
    step = t_max / (knots - 1)
    seen = _CharacteristicFunction.apply(rows, directions.to(rows), step, knots - 1)  # type: ignore[no-untyped-call]
    seen = seen.to("cpu", torch.complex128)
    gaussian = torch.exp(-(times**2) / 2)[:, None]
    errors = (seen.real - gaussian) ** 2 + seen.imag**2
    chance = (1 - seen.real**2 - seen.imag**2) / (len(rows) - 1)
    return float((weights @ (errors - chance)).mean())


def null_mean(*, knots: int = 17, t_max: float = 3.0) -> float:
    """The expectation of `sigreg` for N(0, I), whatever n: 1.0525 on the default grid."""
    times, weights = _grid(knots, t_max)
    return float((weights * (1 - torch.exp(-(times**2)))).sum())


def collapse_value(*, knots: int = 17, t_max: float = 3.0) -> float:
    """`sigreg` of rows that are all 0, for each of them: 0.402 on the default grid."""
    times, weights = _grid(knots, t_max)
    return float((weights * (1 - torch.exp(-(times**2) / 2)) ** 2).sum())


def expected_sigreg(
    mean: Tensor, covariance: Tensor, directions: Tensor, *, rows: int, knots: int, t_max: float
) -> float:
    """The expectation of `sigreg` for n rows of a Gaussian with this mean and covariance.

    Each slice is N(m, v), whose characteristic function f is known, so with g that of N(0, 1) the
    expectation is the weighted sum of ``n |f - g|^2 + 1 - |f|^2``.

    Args:
        mean: ``(d,)``.
        covariance: ``(d, d)``.
        directions: ``(d, m)`` unit columns.
        rows: n.
        knots: points on ``[0, t_max]``.
        t_max: end of the integration range.
    """
    directions = directions.double()
    times, weights = _grid(knots, t_max)
    offset = times[:, None] * (mean.double() @ directions)
    variance = ((covariance.double() @ directions) * directions).sum(0)
    size = torch.exp(-(times[:, None] ** 2) * variance / 2)
    gaussian = torch.exp(-(times[:, None] ** 2) / 2)
    errors = (size * offset.cos() - gaussian) ** 2 + (size * offset.sin()) ** 2
    return float((weights @ (rows * errors + 1 - size**2)).mean())


def _grid(knots: int, t_max: float) -> tuple[Tensor, Tensor]:
    """``(knots - 1,)`` times and weights in fp64, both halves in each; t = 0 is left out."""
    step = t_max / (knots - 1)
    times = step * torch.arange(1, knots, dtype=torch.float64)
    weights = 2 * step * torch.exp(-(times**2) / 2)
    weights[-1] /= 2
    return times, weights


class _CharacteristicFunction(torch.autograd.Function):
    """``(count, m)`` means over the rows of ``exp(i k step x)``, k = 1 to count, x the projections.

    With w = exp(i step x) the powers w^k come one from the other by a multiplication, and the
    gradient, a polynomial in w, by Horner's rule; powers are never kept, so memory stays flat.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, directions: Tensor, step: float, count: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(rows, directions)
        ctx.step, ctx.count = step, count
        blocks = []
        for some in directions.split(_columns_at_once(rows), dim=1):
            turn = _turns(rows, some, step)
            power = turn.clone()
            means = [power.mean(0)]
            for _ in range(count - 1):
                power *= turn
                means.append(power.mean(0))
            blocks.append(torch.stack(means))
        return torch.cat(blocks, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        rows, directions = ctx.saved_tensors
        at_once = _columns_at_once(rows)
        orders = torch.arange(1, ctx.count + 1, device=rows.device)[:, None]
        # d cos(k y) = -k sin(k y) and d sin(k y) = k cos(k y): the real part of k (s + i c) w^k
        coefficients = torch.complex(gradient.imag, gradient.real) * orders
        result = torch.zeros_like(rows)
        blocks = zip(
            directions.split(at_once, dim=1), coefficients.split(at_once, dim=1), strict=True
        )
        for some, factors in blocks:
            turn = _turns(rows, some, ctx.step)
            value = factors[-1] * turn
            for factor in factors[:-1].flip(0):
                value += factor
                value *= turn
            result.addmm_(value.real, some.T, alpha=ctx.step / len(rows))
        return result, None, None, None


def _columns_at_once(rows: Tensor) -> int:
    return max(1, _ELEMENTS_AT_ONCE // len(rows))


def _turns(rows: Tensor, directions: Tensor, step: float) -> Tensor:
    """``(n, m)`` unit complex numbers exp(i step x)."""
    angles = (rows @ directions) * step
    return torch.polar(torch.ones_like(angles), angles)
