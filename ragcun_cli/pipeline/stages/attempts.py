"""What the stages of a workspace took, those that failed or were stopped among them.

A line for each, in one file of the workspace. What a kill or a power cut ended left no line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ragcun_cli.pipeline.machine import provenance
from ragcun_cli.pipeline.machine.processes import rank
from ragcun_cli.spec.manifest import Stage


@dataclass(frozen=True)
class Attempt:
    """One time that a stage ran."""

    stage: str
    label: str
    ended: str
    """`finished`, `failed` or `stopped`."""
    seconds: float
    device: str
    peak_bytes: int
    """The most memory that the process had had by its end; on a GPU, of the GPU."""


@contextmanager
def noted(file: Path | None, stage: Stage, label: str) -> Iterator[None]:
    """Note in a file how what is done here ends; None notes nothing."""
    started, ended = time.perf_counter(), "failed"
    try:
        yield
        ended = "finished"
    except BaseException as error:
        ended = "failed" if isinstance(error, Exception) else "stopped"
        raise
    finally:
        if file is not None and rank() == 0:
            seconds = round(time.perf_counter() - started, 3)
            device = provenance.device_name()
            one = Attempt(stage.value, label, ended, seconds, device, _peak_bytes())
            with suppress(OSError), file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(one)) + "\n")


def read_attempts(file: Path) -> list[Attempt]:
    """The attempts that a file holds; none where it is absent, and no line that was cut short."""
    found = []
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                found.append(Attempt(**json.loads(line)))
    return found


def _peak_bytes() -> int:
    import resource

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
