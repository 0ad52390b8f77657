"""Run a stage unless its folder's manifest shows it done with the same values on the same input.

Freshness is derived, never stored: a stage is current while its recorded recipe equals the one
computed now and its files are intact, and so is everything that it rests on.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from ragcun_cli.core.errors import SettingsError
from ragcun_cli.core.folders import discard, discarded, is_writable, put_on_disk, take_place
from ragcun_cli.pipeline.machine import giving_out, provenance
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.machine.stops import holder_file, locked, safe_point
from ragcun_cli.pipeline.stages.attempts import last_failures, noted, record_of
from ragcun_cli.pipeline.stages.course import Course
from ragcun_cli.pipeline.stages.running import giving_signs
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.errors import (
    BlockedError,
    DataError,
    NewerFormatError,
    RagcunError,
    StageFailedError,
    StaleInputError,
    WorkspaceError,
)
from ragcun_cli.spec.manifest import (
    Artifact,
    Manifest,
    Stage,
    StageRecord,
    digest,
)
from ragcun_cli.spec.paths import MANIFEST, path_of
from ragcun_cli.spec.section import dotted

NUMBERS_VERSIONS: dict[Stage, int] = dict.fromkeys(Stage, 1) | {
    Stage.DATA: 2,
    Stage.MINE: 2,
    Stage.TRAIN: 4,
    Stage.EVAL: 3,
    Stage.ISOTROPY: 2,
    Stage.REPORT: 3,
}
"""Raised in the commit that writes a **Numbers** line in the CHANGELOG: older results are stale."""

LEXICAL_NUMBERS = 2
"""The same for what rests on the words of BM25: its minings and its rankings, no dense ones."""

DRAFT_RECIPE = "recipe"
CHANGED = "was changed after it was written"


@dataclass(frozen=True)
class Stale:
    """Why a task is not up to date."""

    kind: Literal["absent", "input", "changed", "damaged"]
    """It never ran; something it rests on is not up to date; what it is made of is another now;
    it was finished, and what it left is not there as it was written."""

    why: str
    """For people."""


class Runner:
    """Brings tasks up to date, one after the other."""

    def __init__(
        self, progress: Progress, *, verify: bool = False, attempts: Path | None = None
    ) -> None:
        """Run tasks.

        Args:
            progress: is told what is going on.
            verify: read files to see that they are intact.
            attempts: file that gets a line for each time that a task runs.
        """
        self.progress = progress
        self._attempts = attempts
        self._verify = verify
        self._stale: dict[tuple[Path, str], Stale | None] = {}
        self.course = Course([])

    def record(self, task: Task) -> StageRecord | None:
        """What the manifest says of a task, current or not."""
        return Manifest.load(task.folder / MANIFEST).stages.get(task.key)

    def current_record(self, task: Task) -> StageRecord | None:
        """The record of a task that is up to date, else None."""
        return self.record(task) if self.is_current(task) else None

    def is_current(self, task: Task) -> bool:
        """Whether a task and everything it rests on match their values and are intact on disk."""
        return self.stale(task) is None

    def stale(self, task: Task) -> Stale | None:
        """Why a task is not up to date; None where it is."""
        if task.identity not in self._stale:
            try:
                self._stale[task.identity] = self._find_stale(task)
            except NewerFormatError:
                raise
            except WorkspaceError as error:  # of a manifest
                self._stale[task.identity] = Stale("damaged", str(error))
        return self._stale[task.identity]

    def _find_stale(self, task: Task) -> Stale | None:
        record = self.record(task)
        if record is None:
            left = [name for name in task.outputs if (task.folder / name).exists()]
            why = f"{left[0]} has no record of how it was made" if left else "it has not run"
            return Stale("damaged" if left else "absent", why)
        for need in task.needs:
            if (stale := self.stale(need)) is not None:
                first = stale.why if stale.kind == "input" else f"{need.label}: {stale.why}"
                return Stale("input", first)
        made_of = self._made_of(task)
        if record.recipe != digest(made_of):
            return Stale("changed", _difference(record.made_of, made_of))
        for file in record.outputs:
            if not file.is_intact(task.folder, verify=self._verify):
                return Stale("damaged", _damage(file, task.folder))
        if task.still_good is not None and not task.still_good():
            return Stale("damaged", "passages that it keeps with another data set are not there")
        return None

    def recipe(self, task: Task) -> str:
        """Digest of everything the numbers of a task depend on; its needs have run."""
        return digest(self._made_of(task))

    def _made_of(self, task: Task) -> dict[str, Any]:
        return {
            "numbers_version": NUMBERS_VERSIONS[task.stage],
            "values": dict(task.values),
            "inputs": [self.fed_digests(need) for need in task.needs],
        }

    def fed_digests(self, task: Task) -> dict[str, str]:
        """Of the files of a finished task that later stages depend on: ``key:path`` -> sha256."""
        record = self.record(task)
        assert record is not None, f"{task.label} has not run"
        return {
            f"{task.key}:{file.path}": file.sha256
            for file in record.outputs
            if any(_within(file.path, fed) for fed in task.feeds)
        }

    def read(self, task: Task, name: str) -> bytes:
        """A file that a task wrote which is up to date.

        Raises:
            WorkspaceError: it is not what was written.
        """
        file, record = task.folder / name, self.record(task)
        assert record is not None, f"{task.label} has not run"
        try:
            content = file.read_bytes()
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() not in [
            output.sha256 for output in record.outputs if output.path == name
        ]:
            self._stale[task.identity] = Stale("damaged", f"{name} {CHANGED}")
            raise WorkspaceError(f"{file} {CHANGED}", hint="the same command with --verify")
        return content

    def require_intact(self, tasks: Iterable[Task]) -> None:
        """Read what tasks have written, each file once in a process, before it is computed with.

        Raises:
            WorkspaceError: a file is not what was written.
        """
        for task in tasks:
            record = self.record(task)
            for file in () if record is None else record.outputs:
                if not file.is_intact(task.folder, verify=True):
                    raise WorkspaceError(
                        f"{task.label}: {_damage(file, task.folder)}",
                        hint=f"ragcun data verify {task.folder.name}"
                        if task.stage is Stage.DATA
                        else "the same command with --verify",
                    )

    def say_verified(self) -> None:
        """Say of how many stages all files were read and are intact, if files are read at all."""
        if self._verify:
            intact = sum(stale is None for stale in self._stale.values())
            self.progress.note(f"stages whose files were all read and are intact: {intact}")

    def look_again(self) -> None:
        """Forget what was current: other commands have run stages since."""
        self._stale.clear()

    def failures(self, tasks: Iterable[Task]) -> dict[tuple[Path, str], str]:
        """Identity of tasks whose last attempt, or that at what they rest on, failed -> why."""
        if (file := self._attempts) is None:
            return {}
        known, found = last_failures(file), {}
        for task in tasks:
            for one in with_needs([task]):
                why = known.get(record_of(one, file.parent))
                if why is not None and not self.is_current(one):
                    found[task.identity] = f"'{one.label}' failed: {why}"
        return found

    def require_made(self, tasks: Sequence[Task]) -> None:
        """Pass if there are none: tasks that other commands than this one are to run.

        Raises:
            StageFailedError: the last attempt at one failed, so that it will not be there soon.
            BlockedError: otherwise.
        """
        hint = "the same command without --no-prerequisites"
        for why in self.failures(tasks).values():
            raise StageFailedError(why, hint=hint)
        if tasks:
            names = ", ".join(task.label for task in tasks[:5])
            many = f"{len(tasks)} earlier stages are missing or out of date: {names}"
            raise BlockedError(many, hint=hint)

    def pending(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks, and what they rest on, that are not current, in the order they run."""
        return [task for task in with_needs(tasks) if not self.is_current(task)]

    def remove_left(self, tasks: Iterable[Task]) -> None:
        """Remove what a kill left of the drafts of tasks that were just finished."""
        for task in with_needs(tasks):
            left = [place for place in _drafts(task) if place.exists() or discarded(place).exists()]
            if left and self.is_current(task):
                with suppress(OSError), FileLock(task.lock, timeout=0):  # else it runs elsewhere
                    for place in left:
                        discard(place)

    def run(self, task: Task, *, force: bool = False) -> bool:
        """Bring one task up to date; True if it ran. With force it begins anew, whatever is there.

        Raises:
            StaleInputError: a task that it needs is missing or out of date.
            WorkspaceError: its folder cannot be written, or what it reads is damaged.
            StageFailedError: the disk or the memory gave out while it ran.
        """
        safe_point()
        how_far = self.course.comes_to(task)
        for need in task.needs:
            if not self.is_current(need):
                raise StaleInputError(f"'{task.label}' reads '{need.label}', not up to date")
        if not force and self.is_current(task):
            return False
        refuse_unwritable(task.folder)
        task.folder.mkdir(parents=True, exist_ok=True)
        with locked(task.lock, f"'{task.label}'"):
            self._stale.clear()
            if not force and self.is_current(task):
                return False
            if how_far is not None:
                self.progress.stage(how_far)
            self.require_intact(task.needs)
            try:
                root = None if self._attempts is None else self._attempts.parent
                with (
                    noted(self._attempts, task),
                    giving_signs(root, task, self.progress) as progress,
                ):
                    self._execute(task, progress, force=force)
            except RagcunError:
                _clear_failed(task)
                raise
            except SettingsError as error:
                _clear_failed(task)
                raise DataError(f"'{task.label}' cannot be done: {error}") from error
            except Exception as error:
                if giving_out.gave_out(error) is None:
                    raise
                _clear_failed(task)
                failed = giving_out.gave_out(error, stage=task.label, folder=task.folder)
                raise failed or error from error
            finally:
                self._stale.clear()
        return True

    def _execute(self, task: Task, progress: Progress, *, force: bool) -> None:
        began, started = datetime.now(UTC), time.perf_counter()
        made_of, earlier = self._made_of(task), self.record(task)
        recipe = digest(made_of)
        draft = _prepare_draft(task, recipe, force=force)
        details = task.action(draft, progress)
        if task.irreplaceable and earlier is not None and earlier.recipe != recipe:
            draft = self._set_aside(task, earlier)
        swapped = task.stage is Stage.DATA and earlier is not None
        if not swapped:
            if earlier is not None:  # a stage that dies moving files must not look finished
                _write_record(task, None)
            for name in task.outputs:
                _move_over(draft / name, task.folder / name)
        record = StageRecord(
            recipe=recipe,
            made_of=without_home(made_of),
            outputs=tuple(_artifacts(task, draft if swapped else task.folder)),
            seconds=round(time.perf_counter() - started, 3),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            device=provenance.device_name(),
            versions=provenance.versions(),
            commit=provenance.commit(),
            details=without_home(details),
            provenance=provenance.circumstances(began),
        )
        if swapped:  # perhaps a person's only copy: a stop leaves one of the two
            _swap(task, draft, record)
        else:
            _write_record(task, record)
            discard(draft)

    def _set_aside(self, task: Task, earlier: StageRecord) -> Path:
        name = f"{task.folder.name}.kept-{earlier.recipe[:8]}"
        kept, copy = task.folder.with_name(name), 2
        while kept.exists():  # the same recipe was kept aside before
            kept, copy = task.folder.with_name(f"{name}-{copy}"), copy + 1
        draft = task.draft.relative_to(task.folder)
        task.folder.rename(kept)
        task.folder.mkdir()
        holder_file(kept / task.lock.name).unlink(missing_ok=True)
        self.progress.note(
            f"{task.label}: its input changed; the earlier model stays at {kept.name}"
        )
        return kept / draft


def _damage(file: Artifact, folder: Path) -> str:
    return f"{file.path} {CHANGED}" if (folder / file.path).exists() else f"{file.path} is missing"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """In what things that a task was made of differ from those that it would be made of now."""
    if not old:
        return "it was made of other values, or by an earlier version"
    if old["numbers_version"] != new["numbers_version"]:
        return f"numbers version {new['numbers_version']}, was {old['numbers_version']}"
    before, now = (dotted(without_home(each["values"])) for each in (old, new))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            return f"{key} is {now.get(key, 'its default')}, was {before.get(key, 'its default')}"
    before, now = (dict(ChainMap(*each["inputs"])) for each in (old, new))
    files = [file for file in sorted({*before, *now}) if before.get(file) != now.get(file)]
    return f"its input {', '.join(files[:3])} is another" if files else "it rests on other stages"


def _within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/")


def refuse_unwritable(folder: Path) -> None:
    """Pass if files can be made in a folder, or in one of its name where there is none yet.

    Raises:
        WorkspaceError: they cannot.
    """
    if not is_writable(folder):
        shared = os.environ.get("RAGCUN_DATA")
        data = shared is not None and folder.is_relative_to(path_of(shared))
        raise WorkspaceError(
            f"{folder} cannot be written",
            hint="export RAGCUN_DATA=FOLDER, one you can write"
            if data
            else "--workspace FOLDER, or export RAGCUN_WORKSPACE=FOLDER",
        )


def _clear_failed(task: Task) -> None:
    """Leave no trace of input that was refused; a training's checkpoints are kept."""
    if task.resumable:
        return
    with suppress(OSError):  # why it cannot be written is said; or it holds what is not ours
        discard(task.draft)
        if not (task.folder / MANIFEST).exists():
            task.lock.unlink(missing_ok=True)
            holder_file(task.lock).unlink(missing_ok=True)
            task.folder.rmdir()


def _drafts(task: Task) -> list[Path]:
    """Where a task's draft may lie: a stop may leave it in a folder that was being kept aside."""
    aside = task.folder.parent.glob(f"{task.folder.name}.kept-*")
    return [folder / task.draft.name for folder in (task.folder, *aside)]


def _prepare_draft(task: Task, recipe: str, *, force: bool) -> Path:
    """An empty draft, or the one that an interrupted attempt with this recipe left."""
    for left in _drafts(task):
        mark = left / DRAFT_RECIPE
        resumes = task.resumable and not force and mark.exists()
        if resumes and mark.read_bytes() == recipe.encode():
            return left.rename(task.draft)
        discard(left)
    task.draft.mkdir()
    (task.draft / DRAFT_RECIPE).write_text(recipe, encoding="utf-8")
    return task.draft


def _write_record(task: Task, record: StageRecord | None) -> None:
    """Set a task's record in its manifest, or drop it; other stages may be writing theirs."""
    file = task.folder / MANIFEST
    with locked(task.folder / f".{MANIFEST}.lock"):
        Manifest.load(file).with_stage(task.key, record).save(file)


def _move_over(new: Path, old: Path) -> None:
    old.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir():
        discard(old)
    new.replace(old)


def _swap(task: Task, draft: Path, record: StageRecord) -> None:
    """Put a folder that holds nothing but a task's outputs in the place of the earlier one."""
    whole = task.folder.with_name(f".{task.folder.name}.whole")
    discard(whole)
    draft.rename(whole)
    (whole / DRAFT_RECIPE).unlink()
    Manifest().with_stage(task.key, record).save(whole / MANIFEST)
    take_place(whole, task.folder)


def _artifacts(task: Task, folder: Path) -> Iterable[Artifact]:
    for name in task.outputs:
        output = folder / name
        files = sorted(output.rglob("*")) if output.is_dir() else [output]
        for file in files:
            if file.is_file():
                put_on_disk([file])
                yield Artifact.of(file, root=folder)
