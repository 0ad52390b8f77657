"""Make the model of one run: fine-tuned, or set up as the reference it is."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ragcun_cli.core.collective import world_size
from ragcun_cli.core.model import parameter_counts
from ragcun_cli.core.trainer import TrainingStoppedError
from ragcun_cli.core.training.checkpoints import (
    SCORE,
    best_encoder,
    export_encoder,
    resume_points,
)
from ragcun_cli.core.training.fit import (
    Outcome,
    Selection,
    total_steps,
    train_encoder,
)
from ragcun_cli.pipeline.encoders.find import FoundEncoder
from ragcun_cli.pipeline.machine import processes
from ragcun_cli.pipeline.machine.devices import check_precision
from ragcun_cli.pipeline.machine.progress import Advance, Progress, Silent
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.training.job import Job, objective_settings, trainer_settings
from ragcun_cli.pipeline.training.prepare import Prepared, prepare, use_cached_base
from ragcun_cli.pipeline.training.probe_start import probe_start, say_unknown
from ragcun_cli.pipeline.training.start_encoder import save_reference, save_with_card, start_encoder
from ragcun_cli.spec.errors import RagcunError, StageFailedError
from ragcun_cli.spec.manifest import digest, write_atomically
from ragcun_cli.spec.paths import CHECKPOINTS, MODEL, TRACKER, TRAINING_LOG, OutputsFolder
from ragcun_cli.spec.profile import RunProfile

ELAPSED = "elapsed_seconds"


def train(job: Job, *, progress: Progress) -> dict[str, Any]:
    """Fine-tune the run's encoder, save it with its log, and return what it cost.

    Raises:
        DataError: fewer training rows than a batch, or selection on test queries.
        StageFailedError: the loss or a gradient was not finite, it diverged, or it collapsed.
    """
    run, training = job.run, job.profile.training
    check_precision(training.precision, job.device)
    _check_tracker(training.report_to)
    settings = trainer_settings(job)
    ready = prepare(job, progress)
    say_unknown(job, ready.model, ready.rows, progress)
    seen = probe_start(job, ready.model, ready.rows, progress)
    steps = total_steps(len(ready.rows), settings)
    _warn(job.profile, progress)
    clock = _Clock(job.draft / ELAPSED, progress)
    cached = use_cached_base(job, ready, progress)
    with progress.bar(f"train {run.label}", total=steps, unit="steps") as advance:
        try:
            with processes.joined(partial(join_training, job), ends=TrainingStoppedError):
                on_step = partial(clock.on_step, advance)
                outcome = _fit(job, ready, progress=progress, on_step=on_step)
        except TrainingStoppedError as error:
            raise _stopped(job, error) from error
    _save_result(job, ready, outcome)
    for retry in outcome.memory_retries:
        progress.note(
            f"{run.label}: out of memory at step {retry['step']}; from there on micro-batches of "
            f"{retry['mini_batch_size']} rows, which have other dropout masks"
        )
    seconds = clock.seconds()
    examples = outcome.steps * settings.batch_size * settings.gradient_accumulation_steps
    return {
        **parameter_counts(ready.model),
        "encoder": job.encoder.provenance(),
        "rows": len(ready.rows),
        "steps": outcome.steps,
        "ranks": world_size(),
        "weights": objective_settings(job.profile).weights,
        "training_seconds": round(seconds, 1),
        "examples_per_second": round(examples / seconds, 2),
        "precision": training.precision,
        "memory_retries": list(outcome.memory_retries),
        **_choice(job, ready, outcome),
        "frozen_base": cached,
        "probe": None if seen is None else asdict(seen),
    }


def join_training(job: Job) -> None:
    """What ranks 1 and up do of a training: all but write and speak.

    Why it stopped itself, rank 0 says.
    """
    ready = prepare(job, Silent())
    use_cached_base(job, ready, Silent())
    with suppress(TrainingStoppedError):
        _fit(job, ready, progress=Silent(), on_step=lambda step: None)


def set_up_start(
    run: Run,
    draft: Path,
    *,
    encoder: FoundEncoder,
    dataset: Path,
    device: str,
    outputs: OutputsFolder | None,
    progress: Progress,
) -> dict[str, Any]:
    """Save the encoder that every experiment with a linear head starts from."""
    how: Any = {"device": device, "outputs": outputs, "progress": progress}
    model = start_encoder(run.profile.untrained, encoder, dataset, **how)
    return save_reference(model, draft, run, encoder)


def _warn(profile: RunProfile, progress: Progress) -> None:
    training = profile.training
    if training.gradient_accumulation_steps > 1:
        whole = training.batch_size * training.gradient_accumulation_steps
        progress.note(
            f"gradient accumulation: InfoNCE and SIGReg see {training.batch_size} rows at a time, "
            f"not {whole}; --set training.batch_size={whole} --set training.mini_batch_size="
            f"{training.batch_size} --set training.gradient_accumulation_steps=1 sees all"
        )


def _check_tracker(name: str) -> None:
    if name != "none" and importlib.util.find_spec(name) is None:
        raise RagcunError(
            f"training.report_to is '{name}', which is not installed", hint=f"pip install {name}"
        )


def _fit(
    job: Job, ready: Prepared, *, progress: Progress, on_step: Callable[[int], None]
) -> Outcome:
    config = job.profile.training.selection
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(job.draft / TRACKER)  # the Trainer's only way
    selection = None
    if ready.selection is not None:
        chosen = ready.selection
        selection = Selection(
            evaluate=lambda _: ready.start.kept(chosen.scores),
            every=config.every,
            patience=config.patience,
        )

    def after_step(step: int) -> None:
        on_step(step)
        processes.stop_together()

    return train_encoder(
        ready.fitted,
        ready.rows,
        objective=objective_settings(job.profile),
        settings=trainer_settings(job),
        head_modules=ready.head,
        folder=job.draft,
        save=partial(_save_kept, job, ready),
        on_step=after_step,
        on_log=lambda line: progress.measure({"loss": line["loss"]} if "loss" in line else {}),
        say=lambda text: progress.note(f"{job.run.label}: {text}"),
        prompts=ready.prompts,
        selection=selection,
        judged=ready.judged,
    )


def _stopped(job: Job, error: TrainingStoppedError) -> StageFailedError:
    training = job.profile.training
    kept = [path.name for path in resume_points(job.draft)]
    where = f"its last good checkpoint, {kept[-1]}, is in {job.draft}" if kept else "none is kept"
    return StageFailedError(
        f"training {job.run.label} stopped: {error}; {where}",
        hint=f"the same command with --set training.base_learning_rate="
        f"{training.base_learning_rate / 10:g} --set training.projection_learning_rate="
        f"{training.projection_learning_rate / 10:g}",
    )


def _save_result(job: Job, ready: Prepared, outcome: Outcome) -> None:
    if outcome.best_step is None:
        _save_kept(job, ready, job.draft / MODEL)
    else:
        best = best_encoder(job.draft, outcome.best_step)
        export_encoder(lambda folder: _copy(best, folder), job.draft / MODEL)
        if outcome.best_step != outcome.steps:
            last = job.draft / CHECKPOINTS / f"step-{outcome.steps}"
            export_encoder(partial(_save_kept, job, ready), last)
    (job.draft / CHECKPOINTS).mkdir(exist_ok=True)
    if ready.selection is not None:
        ready.selection.write(job.draft)
    text = "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in outcome.log)
    (job.draft / TRAINING_LOG).write_text(text, encoding="utf-8")


def _choice(job: Job, ready: Prepared, outcome: Outcome) -> dict[str, Any]:
    """Which encoder was kept, in words, and what it was chosen by beside the score of the last."""
    if ready.selection is None:
        said = "the last; --set training.selection.queries=500 keeps the best on held-out queries"
        return {"selected_step": None, "selection": None, "kept": said}
    scores = [entry[key] for entry in outcome.log if (key := f"eval_{SCORE}") in entry]
    best, last, queries = max(scores), scores[-1], len(ready.selection.texts)
    chosen = f"{queries} queries of {job.profile.selected_on}, {best:.4f} at step"
    parts = next(entry for entry in outcome.log if entry.get(f"eval_{SCORE}") == best)
    by_set = {key[5:]: score for key, score in parts.items() if "/" in key}
    return {
        "selected_step": outcome.best_step,
        "selection": {"queries": queries, "kept": best, "last": last}
        | ({"by_set": by_set} if by_set else {}),
        "kept": f"the best by nDCG@10 on {chosen} {outcome.best_step}; the last has {last:.4f}",
    }


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _save_kept(job: Job, ready: Prepared, folder: Path) -> None:
    ready.start.kept(partial(save_with_card, folder=folder, run=job.run, encoder=job.encoder))


class _Clock:
    """Steps done, and the seconds they took over all attempts that a kill cut short."""

    def __init__(self, file: Path, progress: Progress) -> None:
        self._file, self._steps, self._before = file, 0, 0.0
        if file.exists():
            seconds, _, mark = file.read_text(encoding="utf-8", errors="replace").partition(" ")
            if mark == digest(seconds):
                self._before = float(seconds)
            else:
                progress.note(f"{file} is damaged: the time of earlier attempts is not counted")
        self._started = self._kept = time.perf_counter()

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def on_step(self, advance: Advance, step: int) -> None:
        """Tell how many are done; write the seconds down, once a second at most."""
        advance(step - self._steps)
        self._steps = step
        if time.perf_counter() - self._kept >= 1:
            self._kept = time.perf_counter()
            seconds = f"{self.seconds():.3f}"
            write_atomically(self._file, f"{seconds} {digest(seconds)}")
