"""When a training logs, saves and exports, and which of its checkpoints are kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragcun_cli.core.collective import mean_over_ranks, wait_for_all
from ragcun_cli.core.folders import discard, put_on_disk, whole_folder

RESUME, EXPORTS, BEST = "resume", "checkpoints", "best"
SCORE = "ndcg@10"
DIGESTS = "digests.json"
"""Of a checkpoint to resume from: a digest of each file that it rests on, written last."""
_KEPT = 2

Save = Callable[[Path], None]
"""Writes the encoder as it is now into a folder."""


@dataclass(frozen=True)
class Calendar:
    """Which optimiser steps are logged, and at which the plan wants a checkpoint."""

    logging_steps: int
    checkpoint_steps: int
    last: int

    def logs(self, step: int) -> bool:
        """Whether a line of the log ends with this step."""
        return step % self.logging_steps == 0 or self.exports(step) or step == self.last

    def exports(self, step: int) -> bool:
        """Whether the encoder of this step is kept for good; that of the last is the run's own."""
        return step % self.checkpoint_steps == 0 and step != self.last


class Checkpoints(TrainerCallback):
    """Saves where the plan wants it, and between, every so many minutes, to resume from.

    Only at steps that are logged: what the log averages over then begins anew, so that a resumed
    training logs what the uninterrupted one does.
    """

    def __init__(self, calendar: Calendar, *, minutes: float, folder: Path, save: Save) -> None:
        self._calendar = calendar
        self._seconds = minutes * 60
        self._folder = folder
        self._save = save
        self._saved = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        """Decide, alike on all ranks, whether this step is logged and saved."""
        step = state.global_step
        if not self._calendar.logs(step):
            return
        control.should_log = True
        exports = self._calendar.exports(step)
        if exports or step == self._calendar.last or self._is_due(args.device):
            control.should_save = True

    def _is_due(self, device: torch.device) -> bool:
        late = time.monotonic() - self._saved >= self._seconds
        return bool(mean_over_ranks(torch.tensor(float(late), device=device)) > 0)

    def on_save(self, args: object, state: TrainerState, *rest: object, **more: object) -> None:
        """Export the plan's checkpoint, and keep the newest two to resume from, with digests.

        Nothing where the trainer refused to save.
        """
        wait_for_all()  # each writes the state of its random numbers
        checkpoint = self._folder / RESUME / f"checkpoint-{state.global_step}"
        if not checkpoint.exists():
            return
        self._saved = time.monotonic()
        if not state.is_world_process_zero:
            return
        if self._calendar.exports(state.global_step):
            export_encoder(self._save, self._folder / EXPORTS / f"step-{state.global_step}")
        _write_digests(self._folder, checkpoint, best_step(state))
        for old in resume_points(self._folder)[:-_KEPT]:
            discard(old)
        kept = {name for point in resume_points(self._folder) for name in _read_digests(point)}
        for best in (self._folder / BEST).glob("*"):
            if not any(name.startswith(f"{BEST}/{best.name}/") for name in kept):
                discard(best)


class KeepBest(TrainerCallback):
    """Keeps the encoder with the best score on the selection set so far; the first of equals."""

    def __init__(self, *, folder: Path, save: Save) -> None:
        self._folder = folder
        self._save = save

    def on_step_end(
        self, args: object, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        """Have the last encoder scored, too: its score stands beside the best one's."""
        control.should_evaluate |= state.global_step == state.max_steps

    def on_evaluate(self, args: object, state: TrainerState, *rest: object, **more: object) -> None:
        """After the score stands in the log."""
        if state.is_world_process_zero and best_step(state) == state.global_step:
            export_encoder(self._save, best_encoder(self._folder, state.global_step))


def best_step(state: TrainerState) -> int | None:
    """The step with the best score on the selection set, the first of equals."""
    scored = [entry for entry in state.log_history if f"eval_{SCORE}" in entry]
    return max(scored, key=lambda entry: entry[f"eval_{SCORE}"])["step"] if scored else None


def export_encoder(save: Save, folder: Path) -> None:
    """Save the encoder whole or not at all; into an empty folder, which then takes its place."""
    with whole_folder(folder) as draft:
        save(draft)


def resume_points(folder: Path) -> list[Path]:
    """Checkpoints to resume from, oldest first."""
    found = (folder / RESUME).glob("checkpoint-*")
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def best_encoder(folder: Path, step: int) -> Path:
    """Where the encoder of a step lies that had the best score so far.

    One for each step: a checkpoint before the last best one rests on the best one of its own time.
    """
    return folder / BEST / f"step-{step}"


def last_whole_checkpoint(folder: Path, *, say: Callable[[str], None], drop: bool) -> str | None:
    """The newest checkpoint that has, with all that it rests on, the bytes that were written.

    Args:
        folder: of the training.
        say: told of each that is passed over, and why; and that none is left.
        drop: whether those are deleted; one of several processes has to.
    """
    found = resume_points(folder)
    for checkpoint in reversed(found):
        reason = _damage(folder, checkpoint)
        if reason is None:
            return str(checkpoint)
        say(f"{checkpoint.name} is dropped, for the one before: {reason}")
        if drop:
            discard(checkpoint)
    if found:
        say("no checkpoint is left to resume from: the training begins anew")
    return None


def _write_digests(folder: Path, checkpoint: Path, best: int | None) -> None:
    """Vouch for a checkpoint, what was exported before and the best encoder: all is on disk."""
    parts = [checkpoint, folder / EXPORTS]
    parts += [] if best is None else [best_encoder(folder, best)]
    files = [file for part in parts for file in sorted(part.rglob("*")) if file.is_file()]
    digests = {file.relative_to(folder).as_posix(): _digest(file) for file in files}
    draft = checkpoint / f".{DIGESTS}.draft"
    draft.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    put_on_disk([*files, draft])
    draft.replace(checkpoint / DIGESTS)


def _read_digests(checkpoint: Path) -> dict[str, str]:
    """File, relative to the folder of the training -> digest; empty where they cannot be read."""
    with suppress(OSError, ValueError):
        digests = json.loads((checkpoint / DIGESTS).read_text(encoding="utf-8"))
        if isinstance(digests, dict):
            return digests
    return {}


def _damage(folder: Path, checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is whole."""
    digests = _read_digests(checkpoint)
    if not digests:
        return f"{DIGESTS}, which is written last, is missing or damaged"
    for name, digest in digests.items():
        try:
            if _digest(folder / name) != digest:
                return f"{name} is not what {DIGESTS} lists"
        except (OSError, ValueError) as error:
            return f"{name}, which {DIGESTS} lists, cannot be read: {error}"
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
