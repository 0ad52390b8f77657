"""What the processes of one training share. A process alone is a world of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

_apart: ContextVar[bool] = ContextVar("apart", default=False)


@contextmanager
def apart() -> Iterator[None]:
    """Compute what the other ranks do not: within it this process is a world of one."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def world_size() -> int:
    """Number of processes that train together."""
    if _apart.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def wait_for_all() -> None:
    """Go on once every rank has come here."""
    if world_size() > 1:
        dist.barrier()


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean over all ranks of a tensor that each has, with its gradient.

    A loss of it that every rank computes, its parameters' gradients averaged over ranks as
    `DistributedDataParallel` does, has the gradient of one process on the joined batch.
    """
    return values if world_size() == 1 else _sum_over_ranks(values) / world_size()


def gather_rows(rows: Tensor) -> Tensor:
    """``(n * ranks, ...)``: the ``(n, ...)`` rows of all ranks in order of rank, with gradients.

    Every rank has to compute the same loss of them; then the same holds as for `mean_over_ranks`.
    """
    if world_size() == 1:
        return rows
    before = dist.get_rank() * len(rows)
    after = world_size() * len(rows) - before - len(rows)
    return _sum_over_ranks(pad(rows, (0, 0) * (rows.dim() - 1) + (before, after)))


def _sum_over_ranks(values: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return total


class _SumOverRanks(torch.autograd.Function):
    """``dist.all_reduce`` alone works in place and carries no gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401
        return _all_reduced(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return _all_reduced(gradient)


def _all_reduced(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(torch.view_as_real(total) if total.is_complex() else total)
    return total
