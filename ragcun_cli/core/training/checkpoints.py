"""When a training logs, saves and exports, and which of its checkpoints are kept."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragcun_cli.core.collective import mean_over_ranks
from ragcun_cli.core.folders import whole_folder

RESUME, EXPORTS, BEST = "resume", "checkpoints", "best"
SCORE = "ndcg@10"
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
        if exports or step == self._calendar.last or self._is_due():
            control.should_save = True

    def _is_due(self) -> bool:
        late = time.monotonic() - self._saved >= self._seconds
        return bool(mean_over_ranks(torch.tensor(float(late))) > 0)

    def on_save(self, args: object, state: TrainerState, *rest: object, **more: object) -> None:
        """Export the plan's checkpoint, and drop all but the newest two to resume from.

        Nothing where the trainer refused to save.
        """
        if not (self._folder / RESUME / f"checkpoint-{state.global_step}").exists():
            return
        self._saved = time.monotonic()
        if not state.is_world_process_zero:
            return
        if self._calendar.exports(state.global_step):
            export_encoder(self._save, self._folder / EXPORTS / f"step-{state.global_step}")
        for old in resume_points(self._folder)[:-_KEPT]:
            shutil.rmtree(old)


class KeepBest(TrainerCallback):
    """Keeps the encoder with the best score on the selection set so far; the first of equals."""

    def __init__(self, *, folder: Path, save: Save) -> None:
        self._folder = folder
        self._save = save

    def on_evaluate(self, args: object, state: TrainerState, *rest: object, **more: object) -> None:
        """After the score stands in the log."""
        if state.is_world_process_zero and best_step(state) == state.global_step:
            export_encoder(self._save, self._folder / BEST)


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


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; those that a kill cut short are removed.

    The Trainer writes its state last, so a state that can be read vouches for the rest.
    """
    for checkpoint in reversed(resume_points(folder)):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None
