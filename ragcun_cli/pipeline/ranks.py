"""Several processes, one command: rank 0 walks the road, the others join it where work is shared.

Under torchrun every process is the same command. Those of rank 1 and up wait for rank 0 to say what
to train or to search, so that only one of them downloads, mines, scores, writes and speaks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragcun_cli.core.ranking import Hits
    from ragcun_cli.pipeline.evaluate import Form, SearchJob
    from ragcun_cli.pipeline.prepare import Job
    from ragcun_cli.pipeline.progress import Progress

_PATIENCE = timedelta(days=7)  # of ranks that wait while rank 0 mines or evaluates

_calls: Any = None
"""The process group of rank 0's calls; the training has another, with shorter patience."""

_training = False


def is_alone() -> bool:
    """Whether this command is one process, not one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


def rank() -> int:
    """Of this process among those torchrun started."""
    return int(os.environ.get("RANK", "0"))


def own_device(device: str) -> str:
    """This rank's device of the kind that rank 0 chose."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device.startswith("cuda") else device


@contextmanager
def leading() -> Iterator[None]:
    """Rank 0's work; at its end the other ranks are dismissed.

    Not after an error inside a training, where they wait for gradients: torchrun ends them.
    """
    _join()
    try:
        yield
    finally:
        if not _training:
            _broadcast(None)
            _leave()


@contextmanager
def training(job: Job) -> Iterator[None]:
    """Have all ranks train the same job. One that stops itself does so on all of them at once."""
    from ragcun_cli.core.trainer import TrainingStoppedError

    global _training
    if not is_alone():
        _broadcast(job)
        _training = True
    try:
        yield
    except TrainingStoppedError:
        _training = False
        raise
    _training = False


def searching(job: SearchJob, progress: Progress) -> list[dict[Form, Hits]]:
    """What each rank finds of its part of a search, in order of rank.

    Raises:
        Exception: what went wrong on one of them.
    """
    if is_alone():
        return [job.on_rank(0, 1, progress)]
    _broadcast(job)
    return _gathered(job, progress)


def _gathered(job: SearchJob, progress: Progress | None = None) -> list[dict[Form, Hits]]:
    import torch.distributed as dist

    here, world = dist.get_rank(), dist.get_world_size()
    found: Any
    try:
        own = replace(job, source=job.source.on(own_device(job.source.device)))
        found = own.on_rank(here, world, progress)
    except Exception as error:  # noqa: BLE001 - the others wait; rank 0 raises it
        found = error
    box: list[Any] = [None] * world
    dist.gather_object(found, box if here == 0 else None, dst=0, group=_calls)
    for result in box:
        if isinstance(result, Exception):
            raise result
    return box


def follow() -> None:
    """What ranks 1 and up do: join each training and each search, until rank 0 is done.

    Why a training stopped itself, rank 0 says.
    """
    from ragcun_cli.core.trainer import TrainingStoppedError
    from ragcun_cli.pipeline.evaluate import SearchJob
    from ragcun_cli.pipeline.train import join_training

    _join()
    while (job := _broadcast(None)) is not None:
        if isinstance(job, SearchJob):
            _gathered(job)
            continue
        with suppress(TrainingStoppedError):
            join_training(job)
    _leave()


def _join() -> None:
    global _calls
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


def _broadcast(job: Job | SearchJob | None) -> Job | SearchJob | None:
    import torch.distributed as dist

    box = [job]
    dist.broadcast_object_list(box, src=0, group=_calls)
    return box[0]
