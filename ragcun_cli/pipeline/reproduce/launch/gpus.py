"""One process for each GPU of this machine, and a queue of runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ragcun_cli.pipeline.machine import stops
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.reproduce.launch.jobs import Launched, RunJob
from ragcun_cli.spec.errors import NotReproducedError, RagcunError

_QUERY = "--query-gpu=index,uuid,name,memory.free,memory.total"
_CPU = "cpu"
_POLL = 0.5
_PATIENCE = stops.GRACE + 10
"""Seconds that a process has to end after it was asked to."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi names it; memory in bytes."""

    index: str
    uuid: str
    name: str
    free: int
    total: int


def visible_gpus(chosen: str | None) -> list[Gpu]:
    """The GPUs of this machine, of which CUDA_VISIBLE_DEVICES may leave out some.

    Args:
        chosen: indices separated by commas, as `0,2`; None takes all.

    Raises:
        RagcunError: nvidia-smi is not there, or knows no such GPU.
    """
    asked = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RagcunError(
            f"nvidia-smi names no GPU of this machine: {error}", hint="--launcher local"
        ) from error
    found = []
    for line in told.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 5 and cells[3].isdigit() and cells[4].isdigit():
            free, total = (int(cell) * 2**20 for cell in cells[3:])
            found.append(Gpu(cells[0], cells[1], cells[2], free, total))
    seen = chosen or os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(gpu.index for gpu in found))
    named = [name.strip() for name in seen.split(",") if name.strip()]
    by_name = {name: gpu for gpu in found for name in (gpu.index, gpu.uuid)}
    if unknown := [name for name in named if name not in by_name] if chosen else []:
        raise RagcunError(
            f"there is no GPU '{unknown[0]}'; these are: {', '.join(gpu.index for gpu in found)}",
            hint="nvidia-smi --list-gpus",
        )
    visible = {by_name[name]: None for name in named if name in by_name}
    if not visible:
        left_out = " that CUDA_VISIBLE_DEVICES leaves" if found else ""
        raise RagcunError(f"nvidia-smi names no GPU{left_out}", hint="--launcher local")
    return list(visible)


class GpuLauncher:
    """Runs jobs on GPUs, one on each at a time, and those that need none beside them."""

    def __init__(
        self, gpus: Sequence[Gpu], logs: Path, progress: Progress, *, watch: Callable[[], None]
    ) -> None:
        """On some GPUs.

        Args:
            gpus: to use.
            logs: folder that gets a file for each job, with all that it says.
            progress: is told which job begins and how it ended.
            watch: is called several times a second.
        """
        self._gpus, self._logs, self._progress, self._watch = gpus, logs, progress, watch
        self._running: dict[str, tuple[RunJob, subprocess.Popen[bytes]]] = {}
        """By the GPU that each is on."""
        self._logged: dict[str, int] = {}
        """Bytes that earlier attempts left in the log of each."""
        self._failed: dict[str, str] = {}

    def launch(self, jobs: Sequence[RunJob]) -> Launched:
        """Run all to their end; one that fails stops none of the others.

        Raises:
            RagcunError: no GPU has the memory that a job needs.
            NotReproducedError: a job found that the untouched base has other scores than published.
            Stopped: a signal asked for it; all jobs were asked, too, and have ended.
        """
        waiting, slots = list(jobs), self._slots(jobs)
        try:
            while waiting or self._running:
                busy = {job.name for job in waiting}
                busy |= {job.name for job, _ in self._running.values()}
                for slot in [slot for slot in slots if slot not in self._running]:
                    fits = (job for job in waiting if job.on_gpu != (slot == _CPU))
                    if job := next((job for job in fits if not busy & {*job.after}), None):
                        waiting.remove(job)
                        self._start(job, slot)
                self._watch()
                with stops.at_once():
                    time.sleep(_POLL)
                self._collect()
        except BaseException:
            self._stop_all()
            raise
        return Launched(failed=self._failed)

    def _slots(self, jobs: Sequence[RunJob]) -> list[str]:
        needed = max((job.gpu_bytes for job in jobs if job.on_gpu), default=0)
        for gpu in self._gpus:
            if gpu.free < needed:
                room = f"{gpu.free / 1e9:.1f} GB are free, and a run takes {needed / 1e9:.1f} GB"
                self._progress.note(f"GPU {gpu.index} ({gpu.name}) is left alone: about {room}")
        free = [gpu.index for gpu in self._gpus if gpu.free >= needed]
        if not free:
            raise RagcunError(
                f"no GPU has the {needed / 1e9:.1f} GB that a run takes",
                hint="--set training.mini_batch_size=8, or --gpus of others",
            )
        return [*free, _CPU]

    def _start(self, job: RunJob, slot: str) -> None:
        log = self._logs / f"{job.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        visible = "" if slot == _CPU else slot
        chosen = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        self._logged[slot] = log.stat().st_size if log.exists() else 0
        where = "beside the GPUs" if slot == _CPU else f"on GPU {slot}"
        with log.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "ragcun_cli", *job.words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **chosen, stops.LED: f"{os.getpid()}"},
                process_group=0,  # Ctrl-C comes to this command alone, which passes it on
            )
        self._running[slot] = (job, process)
        self._progress.note(f"{job.name} begins {where}; what it says: {log}")

    def _collect(self) -> None:
        for slot, (job, process) in list(self._running.items()):
            if (code := process.poll()) is None:
                continue
            del self._running[slot]
            if code == 0:
                self._progress.note(f"{job.name} is done")
                continue
            why = _last_error(self._logs / f"{job.name}.log", self._logged[slot])
            if code < 0:
                why = f"it was ended by {signal.Signals(-code).name}"
            if code == NotReproducedError.exit_code:
                raise NotReproducedError(why)
            self._failed[job.name] = why
            self._progress.note(f"failed: {job.name}: {why}")

    def _stop_all(self) -> None:
        number = stops.asked() or signal.SIGTERM
        for _, process in self._running.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)
        until = time.monotonic() + _PATIENCE
        for _, process in self._running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _last_error(log: Path, start: int) -> str:
    said = log.read_bytes()[start:][-20_000:].decode(errors="replace")
    errors = re.findall(r"^(?:Error: |\w*Error\b.*?: )(.*)$", said, re.MULTILINE)
    return errors[-1] if errors else f"{log} says why"
