"""Fine-tune an encoder: the settings of a training, and its course."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import BatchSamplers
from torch import Tensor
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from ragcun_cli.core.collective import world_size
from ragcun_cli.core.errors import SettingsError
from ragcun_cli.core.objective.retrieval_loss import RetrievalLoss
from ragcun_cli.core.objective.terms import ObjectiveSettings
from ragcun_cli.core.trainer import (
    RetrievalTrainer,
    ScoreEvaluator,
    Steps,
    TrainingStoppedError,
    memory_retries,
)
from ragcun_cli.core.training.batches import LikeLengthBatchSampler
from ragcun_cli.core.training.checkpoints import (
    RESUME,
    SCORE,
    Calendar,
    Checkpoints,
    KeepBest,
    Save,
    best_step,
    last_whole_checkpoint,
)

Log = list[dict[str, float]]


@dataclass(frozen=True)
class TrainerSettings:
    """How the optimiser runs; the loss has settings of its own."""

    epochs: int
    max_steps: int | None
    batch_size: int
    """Rows in one step, over all ranks."""
    mini_batch_size: int | None
    """Rows encoded at once under GradCache, on one rank; None without it."""
    group_by_length: bool
    gradient_accumulation_steps: int
    warmup_steps: float
    max_grad_norm: float
    base_learning_rate: float
    projection_learning_rate: float
    precision: Literal["fp32", "bf16", "fp16"]
    gradient_checkpointing: bool
    compile: bool
    save_interval: int
    resume_minutes: float
    logging_steps: int
    report_to: str
    run_name: str
    alarms: bool
    seed: int
    device: str


@dataclass(frozen=True)
class Selection:
    """Which of the encoders of a training is kept: the best by a score, not the last."""

    evaluate: Callable[[SentenceTransformer], Mapping[str, float]]
    """nDCG@10 of the encoder as it is, by set and form; their mean counts."""
    every: int
    """Steps between scores."""
    patience: int | None
    """Scores in a row without a better one that end the training."""


@dataclass(frozen=True)
class Outcome:
    """What a training did."""

    log: Log
    steps: int
    best_step: int | None
    """Of the encoder in the folder `best`, under this step; None where the last is the result."""
    memory_retries: tuple[dict[str, int], ...]
    """Each time that memory gave out: the step, and the micro-batch size from there on."""


def total_steps(rows: int, settings: TrainerSettings) -> int:
    """Optimiser steps of the whole training; an incomplete last batch is dropped."""
    steps = steps_per_epoch(rows, settings) * settings.epochs
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def steps_per_epoch(rows: int, settings: TrainerSettings) -> int:
    """Optimiser steps of one pass over the training rows."""
    return math.ceil(rows // settings.batch_size / settings.gradient_accumulation_steps)


def train_encoder(
    model: SentenceTransformer,
    rows: Dataset,
    *,
    objective: ObjectiveSettings,
    settings: TrainerSettings,
    head_modules: Sequence[int],
    folder: Path,
    save: Save,
    on_step: Callable[[int], None] = lambda step: None,
    on_log: Callable[[Mapping[str, float]], None] = lambda line: None,
    say: Callable[[str], None] = lambda text: None,
    prompts: Mapping[str, str] | None = None,
    selection: Selection | None = None,
    judged: Tensor | None = None,
) -> Outcome:
    """Train in place; go on from the last checkpoint if there is one.

    Args:
        model: the encoder, its frozen parts frozen already.
        rows: columns ``query``, ``positive``, ``negative_1`` ... of texts, and perhaps ``label``, a
            list with the numbers of the query and of each passage, equal where texts are.
        objective: the loss.
        settings: the optimiser.
        head_modules: positions of the modules that learn at the projection's rate; each has
            parameters.
        folder: for checkpoints; only an earlier attempt at this very training may have written
            there. The encoders the plan keeps are left in `checkpoints`, the best one in `best`.
        save: writes the encoder, as one that can be loaded, into a folder.
        on_step: told the number of finished steps after each.
        on_log: told each line of the log.
        say: told of checkpoints that are passed over because they are not whole.
        prompts: what goes before the texts of a column.
        selection: how the best encoder is told; without, the last one is the result.
        judged: pairs of those numbers that are judged relevant, as `judged_elsewhere` reads them.

    Raises:
        SettingsError: fewer rows than a batch, a batch that the ranks cannot share evenly, or a
            first score after the last step.
        TrainingStoppedError: the loss is not finite, the encoder collapsed, or steps are missing.
    """
    _check_batches(len(rows), settings)
    last = total_steps(len(rows), settings)
    if selection is not None and selection.every > last:
        raise SettingsError(f"the first score would come after {selection.every} steps of {last}")
    size, head = settings.mini_batch_size, [model[position] for position in head_modules]
    loss = RetrievalLoss(
        model, objective, seed=settings.seed, mini_batch_size=size, judged=judged, head=head
    )
    calendar = Calendar(
        logging_steps=settings.logging_steps,
        checkpoint_steps=steps_per_epoch(len(rows), settings) * settings.save_interval,
        last=last,
    )
    checkpoints = Checkpoints(calendar, minutes=settings.resume_minutes, folder=folder, save=save)
    callbacks: list[TrainerCallback] = [Steps(loss, calendar, on_step, on_log), checkpoints]
    arguments = training_arguments(
        settings, steps=calendar.last, head_modules=head_modules, folder=folder
    )
    arguments.prompts = dict(prompts or {})
    if selection is not None:
        arguments.eval_strategy, arguments.eval_steps = "steps", selection.every
        arguments.metric_for_best_model, arguments.greater_is_better = SCORE, True
        callbacks.append(KeepBest(folder=folder, save=save))
        if selection.patience is not None:
            callbacks.append(EarlyStoppingCallback(selection.patience))
    trainer = RetrievalTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        loss=loss,
        evaluator=None if selection is None else ScoreEvaluator(selection.evaluate),
        callbacks=callbacks,
    )
    trainer.alarms = settings.alarms
    trainer.calendar = calendar
    trainer.head_modules = head_modules
    trainer.remove_callback(PrinterCallback)  # stdout is for data
    checkpoint = last_whole_checkpoint(folder, say=say, drop=arguments.should_save)
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    steps = trainer.state.global_step
    if steps < calendar.last and not trainer.control.should_training_stop:
        raise TrainingStoppedError(f"it ended after {steps} of {calendar.last} steps")
    if not math.isfinite(outcome.training_loss):  # of steps after the last line of the log, too
        raise TrainingStoppedError(f"the loss is {outcome.training_loss} at the end")
    return Outcome(
        log=[_log_entry(entry) for entry in trainer.state.log_history if _is_logged(entry)],
        steps=steps,
        best_step=best_step(trainer.state),
        memory_retries=tuple(memory_retries(trainer.state)),
    )


def _check_batches(rows: int, settings: TrainerSettings) -> None:
    if rows < settings.batch_size:
        raise SettingsError(f"{rows} training rows are fewer than a batch of {settings.batch_size}")
    if settings.batch_size % world_size():
        raise SettingsError(
            f"{world_size()} ranks cannot share a batch of {settings.batch_size} evenly"
        )


def _is_logged(entry: Mapping[str, float]) -> bool:
    return "loss" in entry or f"eval_{SCORE}" in entry


def _log_entry(entry: Mapping[str, float]) -> dict[str, float]:
    """Without what differs each time; in the order of a checkpoint, whatever was read from one."""
    timings = ("_runtime", "_per_second")
    return {key: value for key, value in sorted(entry.items()) if not key.endswith(timings)}


def training_arguments(
    settings: TrainerSettings, *, steps: int, head_modules: Sequence[int], folder: Path
) -> SentenceTransformerTrainingArguments:
    """The Trainer's own settings."""
    whole_warmup = settings.warmup_steps >= 1 or settings.warmup_steps == 0
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / RESUME),
        num_train_epochs=settings.epochs,
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,  # of all ranks: they split each batch
        accelerator_config={"split_batches": True},
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.base_learning_rate,
        learning_rate_mapping={
            rf"^model\.{position}\.": settings.projection_learning_rate for position in head_modules
        },
        lr_scheduler_type="linear",
        warmup_steps=int(settings.warmup_steps) if whole_warmup else settings.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        gradient_checkpointing=settings.gradient_checkpointing or None,
        torch_compile=settings.compile,
        # Not NO_DUPLICATES: where texts repeat it ends an epoch early, at worst before its first
        # batch. Passages judged relevant are left out by the loss.
        batch_sampler=LikeLengthBatchSampler
        if settings.group_by_length
        else BatchSamplers.BATCH_SAMPLER,
        dataloader_drop_last=True,
        dataloader_pin_memory=settings.device != "cpu",
        use_cpu=settings.device == "cpu",
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="no",  # Checkpoints decides
        restore_callback_states_from_checkpoint=True,
        logging_strategy="no",  # Checkpoints decides
        logging_nan_inf_filter=False,
        report_to=settings.report_to,
        run_name=settings.run_name,
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # DataParallel would multiply the batch; torchrun is the way to more
    return arguments
