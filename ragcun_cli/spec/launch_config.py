"""Where jobs run: the section `[launch]` of a plan, and a user's `launch.toml`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ragcun_cli.spec.section import Section

WORD = r"^[A-Za-z0-9._,:@%+=/-]+$"
SLURM_TIME = r"^(([0-9]+-)?[0-9]+(:[0-9]+){0,2}|INFINITE|UNLIMITED)$"
SLURM_OPTION = r"^-[^\r\n]*$"

Word = Annotated[str, Field(pattern=WORD)]


class LaunchConfig(Section):
    """What a cluster is told about each job. It changes no number, and is part of no digest."""

    partition: Word | None = None
    """Of the cluster; none is its own default, as with the next three."""

    time: Annotated[str, Field(pattern=SLURM_TIME)] | None = None
    """Limit of one attempt, as Slurm has it: minutes, H:M:S or D-H:M:S. A job that comes to it is
    stopped, goes back into the queue and goes on."""

    account: Word | None = None
    qos: Word | None = None

    gpus_per_run: int = Field(1, ge=0)
    """GPUs of a job that trains or encodes, on each of its nodes; 0 asks for none."""

    cpus_per_run: int | None = Field(None, ge=1)
    """Processor cores of a job, on each of its nodes."""

    memory: Word | None = None
    """Of a job, on each of its nodes, as ``64G``."""

    processes_per_run: int = Field(1, ge=1)
    """Processes on each node that torchrun divides a training or an encoding among."""

    nodes: int = Field(1, ge=1)
    """Of a job that trains or encodes."""

    signal_seconds: int = Field(300, ge=1)
    """From the signal that a job is to stop to its time limit. Slurm looks at limits every half
    minute, and a command takes up to 20 seconds to stop: below 60 it may be cut off."""

    extra: tuple[Annotated[str, Field(pattern=SLURM_OPTION)], ...] = ()
    """Further options of sbatch, each with its value, as ``--constraint=a100``."""

    setup: tuple[str, ...] = ()
    """Lines of shell before the command, as ``module load cuda``."""

    wait_minutes: float = Field(3, gt=0)
    """That a job whose input is not there yet waits before it looks again."""

    @model_validator(mode="after")
    def _time_to_stop(self) -> Self:
        if self.time is not None and _seconds(self.time) <= self.signal_seconds:
            raise ValueError(
                f"time {self.time} is no longer than signal_seconds {self.signal_seconds}, so that "
                "every job would be stopped as it begins"
            )
        return self


def _seconds(time: str) -> float:
    """Of a time limit as Slurm writes it."""
    if not time[0].isdigit():
        return float("inf")
    days, dash, rest = time.rpartition("-")
    parts = rest.split(":")
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    counted = sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return int(days or 0) * 86_400 + counted
