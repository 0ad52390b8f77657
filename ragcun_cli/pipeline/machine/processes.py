"""Several processes, one command: rank 0 walks the road, the others do the work that it shares.

Under torchrun every process is the same command. Those of rank 1 and up wait for rank 0 to send
what to call, so that only one of them downloads, mines, scores, writes and speaks. What is sent is
pickled: functions of modules, ``partial`` of them, and methods of frozen dataclasses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from ragcun_cli.pipeline.machine import stops
from ragcun_cli.pipeline.machine.progress import Progress, Silent
from ragcun_cli.spec.errors import RagcunError

T = TypeVar("T", covariant=True)
Work = Callable[[], object]

_PATIENCE = timedelta(days=7)  # of ranks that wait while rank 0 mines or evaluates

_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

_calls: Any = None
"""The process group of rank 0's calls; a training has another, with shorter patience."""

_joined = False
"""Whether the others are at work together with rank 0, and wait for it there."""


class Shared(Protocol[T]):
    """Work that processes divide among themselves."""

    def __call__(self, rank: int, world: int, progress: Progress) -> T:
        """Do the part of one of them."""


def is_alone() -> bool:
    """Whether this command is one process, not one of several that torchrun started."""
    return _number("WORLD_SIZE", 1) == 1


def rank() -> int:
    """Of this process among those torchrun started."""
    return _number("RANK", 0)


def _number(name: str, least: int) -> int:
    """What torchrun says by a variable of the environment; the least where it is not set."""
    said = os.environ.get(name, str(least))
    if not re.fullmatch("[0-9]{1,9}", said) or int(said) < least:
        raise RagcunError(
            f"the variable {name} of the environment is '{said}', which torchrun would not set",
            hint=f"unset {name}",
        )
    return int(said)


def own_device(device: str) -> str:
    """This rank's device of the kind that rank 0 chose."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device.startswith("cuda") else device


@contextmanager
def leading() -> Iterator[None]:
    """Rank 0's work; at its end the other ranks are dismissed.

    Not after an error inside work that they joined, where they wait for it: torchrun ends them.
    """
    _join()
    try:
        yield
    finally:
        if not _joined:
            _broadcast(None)
            _leave()


@contextmanager
def joined(work: Work, *, ends: type[Exception]) -> Iterator[None]:
    """Have the other ranks do their part of what rank 0 does inside.

    Args:
        work: is called there.
        ends: an error that all ranks raise at once, as they stop together, after which the others
            wait for the next call.
    """
    global _joined
    if not is_alone():
        _broadcast(partial(_in_step, work))
        _joined = True
    try:
        with nullcontext() if is_alone() else stops.only_together():
            yield
    except (ends, stops.Stopped):
        _joined = False
        raise
    _joined = False


def _in_step(work: Work) -> None:
    with stops.only_together():
        work()


def others_wait_inside() -> bool:
    """Whether an error left the other ranks in work that they joined, so that none can go on."""
    return _joined


def stop_together() -> None:
    """A safe point that all processes come to, and leave at if one of them was asked to stop.

    Raises:
        Stopped: one was.
    """
    if not is_alone():
        import torch
        import torch.distributed as dist

        number = torch.tensor(stops.asked() or 0)
        dist.all_reduce(number, op=dist.ReduceOp.MAX, group=_calls)
        if number:
            stops.ask_for_stop(int(number))
            raise stops.Stopped
    stops.safe_point()


def shared(work: Shared[T], progress: Progress) -> list[T]:
    """What each rank makes of its part of some work, in order of rank.

    Raises:
        Exception: what went wrong on one of them.
    """
    if is_alone():
        return [work(0, 1, progress)]
    _broadcast(partial(_gathered, work, Silent()))
    return _gathered(work, progress)


def _gathered(work: Shared[T], progress: Progress) -> list[T]:
    import torch.distributed as dist

    here, world = dist.get_rank(), dist.get_world_size()
    found: Any
    try:
        found = work(here, world, progress)
    except (Exception, stops.Stopped) as error:  # noqa: BLE001 - the others wait; rank 0 raises it
        found = error
    box: list[Any] = [None] * world
    dist.gather_object(found, box if here == 0 else None, dst=0, group=_calls)
    for result in box:
        if isinstance(result, BaseException):
            raise result
    return box


def follow() -> None:
    """What ranks 1 and up do: all that rank 0 calls them for, until it is done."""
    _join()
    while (work := _broadcast(None)) is not None:
        with suppress(stops.Stopped):
            work()
    _leave()


def _join() -> None:
    global _calls
    lacking = [name for name in _OF_TORCHRUN if not os.environ.get(name)]
    if lacking:
        raise RagcunError(
            f"WORLD_SIZE is set as torchrun does it, and {', '.join(lacking)} not",
            hint="unset WORLD_SIZE",
        )
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    _calls = dist.new_group(backend="gloo", timeout=_PATIENCE)


def _leave() -> None:
    """Wait for gloo's threads, by dropping every name of the group that has just been used.

    One that still lets go of its last message while the interpreter ends aborts the process, and
    with it a finished command: 11 of 60 times on loaded cores (pytorch issue 190489).
    """
    global _calls
    import torch.distributed as dist

    _calls = None
    dist.destroy_process_group()


def _broadcast(work: Work | None) -> Work | None:
    import torch.distributed as dist

    box = [work]
    dist.broadcast_object_list(box, src=0, group=_calls)
    return box[0]
