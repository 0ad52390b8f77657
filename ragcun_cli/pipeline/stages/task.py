"""A stage applied to something: what it reads, needs and writes, and the order tasks run in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.spec.manifest import Stage

Details = dict[str, Any]
Action = Callable[[Path, Progress], Details]
"""Writes the outputs into a draft folder and returns what the record should remember."""


@dataclass(frozen=True)
class Task:
    """A stage applied to something: to a data set, to a run, to a run and a data set."""

    stage: Stage
    label: str
    """For people: `train with_isotropy, seed 1`."""

    folder: Path
    """Where the outputs go, beside the manifest that records them."""

    key: str
    """Its name in that manifest."""

    values: Mapping[str, Any]
    """JSON values that its numbers depend on, beside its inputs."""

    action: Action
    outputs: tuple[str, ...]
    """Files and folders that the action leaves in the draft."""

    feeds: tuple[str, ...]
    """Those of them whose content later stages depend on."""

    needs: tuple[Task, ...] = ()
    work: Workload = field(default_factory=Workload)
    """A rough guess of what it does and holds."""

    seconds: float = 0.0
    """Of that on one machine, beside the other tasks of a command; `priced` fills it in."""

    measured: bool = False
    """Whether they are by what finished tasks of its kind took."""

    size: str = ""
    """What there is to do, in words: `500 passages, 500 queries`."""

    resumable: bool = False
    """The action goes on from what an earlier attempt with the same recipe left in its draft."""

    irreplaceable: bool = False
    """Outputs of another recipe are kept aside, never replaced."""

    again: str | None = None
    """The command that makes it anew."""

    fetch: Callable[[], object] | None = None
    """Brings here what its values have digests of; called before it runs, and it is made anew."""

    still_good: Callable[[], bool] | None = None
    """What has to hold, beside its own files, for it to be up to date."""

    reads_splits: tuple[tuple[Task, str], ...] = ()
    """Data sets and the split of each that it needs judgements of."""

    check: Callable[[], None] | None = None
    """Raises what a person has to change, as far as that is known before it or its needs run."""

    @property
    def identity(self) -> tuple[Path, str]:
        """Two tasks with the same one write the same record."""
        return self.folder, self.key

    @property
    def draft(self) -> Path:
        """Where the action writes until it is whole."""
        return self.folder / f".{self.key.replace('/', '-')}.draft"

    @property
    def lock(self) -> Path:
        """Held while the task runs."""
        return self.draft.with_suffix(".lock")


def with_needs(tasks: Iterable[Task]) -> list[Task]:
    """The tasks and all they rest on, each once, in the order they run."""
    ordered: dict[tuple[Path, str], Task] = {}

    def visit(task: Task) -> None:
        if task.identity not in ordered:
            for need in task.needs:
                visit(need)
            ordered[task.identity] = task

    for task in tasks:
        visit(task)
    return list(ordered.values())
