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
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.errors import first_line


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
    record: str = ""
    """Folder of its manifest, as `record_of` names it, and key in it."""
    why: str = ""
    """What the error said that it failed with."""


def record_of(task: Task, workspace: Path) -> str:
    """What tells the attempts at a task from all others, wherever its workspace lies."""
    folder = task.folder
    inside = folder.is_relative_to(workspace)
    return f"{(folder.relative_to(workspace) if inside else folder).as_posix()} {task.key}"


@contextmanager
def noted(file: Path | None, task: Task) -> Iterator[None]:
    """Note in a file of the workspace how what is done here ends; None notes nothing."""
    started, ended, why = time.perf_counter(), "failed", ""
    try:
        yield
        ended = "finished"
    except BaseException as error:
        ended = "failed" if isinstance(error, Exception) else "stopped"
        why = without_home(first_line(error)) if ended == "failed" else ""
        raise
    finally:
        if file is not None and rank() == 0:
            seconds = round(time.perf_counter() - started, 3)
            device, record = provenance.device_name(), record_of(task, file.parent)
            told = (task.stage.value, task.label, ended, seconds, device, _peak_bytes())
            one = Attempt(*told, record, why)
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


def last_failures(file: Path) -> dict[str, str]:
    """Why the last attempt at a task failed, by its record; none where it ended otherwise."""
    last = {one.record: one for one in read_attempts(file)}
    return {record: one.why for record, one in last.items() if one.ended == "failed"}


def _peak_bytes() -> int:
    import resource

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
