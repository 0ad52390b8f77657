"""Fine-tune an encoder with `SentenceTransformerTrainer`; what is ours are the loss and the log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from torch import Tensor
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ragcun_cli.core.alarms import PATIENCE, Signs, signs_of_collapse
from ragcun_cli.core.batches import LikeLengthBatchSampler
from ragcun_cli.core.checkpoints import (
    RESUME,
    SCORE,
    Calendar,
    Checkpoints,
    KeepBest,
    Save,
    best_step,
    last_whole_checkpoint,
)
from ragcun_cli.core.isotropy import measure_isotropy
from ragcun_cli.core.objective import ObjectiveSettings, RetrievalLoss
from ragcun_cli.core.ranks import world_size
from ragcun_cli.core.sigreg import collapse_value, null_mean

Log = list[dict[str, float]]


class TrainingStoppedError(RuntimeError):
    """The numbers went wrong, and going on would have wasted time; checkpoints are as they were."""


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

    evaluate: Callable[[SentenceTransformer], float]
    """nDCG@10 of the encoder as it is."""
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
    """Of the encoder in the folder `best`; None where the last one is the result."""
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
    prompts: Mapping[str, str] | None = None,
    selection: Selection | None = None,
) -> Outcome:
    """Train in place; go on from the last checkpoint if there is one.

    Args:
        model: the encoder, its frozen parts frozen already.
        rows: columns ``query``, ``positive``, ``negative_1`` ... of texts, and perhaps ``label``, a
            list with the number of each passage of the row, equal where texts are.
        objective: the loss.
        settings: the optimiser.
        head_modules: positions of the modules that learn at the projection's rate; each has
            parameters.
        folder: for checkpoints; only an earlier attempt at this very training may have written
            there. The encoders the plan keeps are left in `checkpoints`, the best one in `best`.
        save: writes the encoder, as one that can be loaded, into a folder.
        on_step: told the number of finished steps after each.
        prompts: what goes before the texts of a column.
        selection: how the best encoder is told; without, the last one is the result.

    Raises:
        ValueError: fewer rows than a batch, or a batch that the ranks cannot share evenly.
        TrainingStoppedError: the loss is not finite, or the encoder has collapsed.
    """
    _check_batches(len(rows), settings)
    loss = RetrievalLoss(
        model, objective, seed=settings.seed, mini_batch_size=settings.mini_batch_size
    )
    calendar = Calendar(
        logging_steps=settings.logging_steps,
        checkpoint_steps=steps_per_epoch(len(rows), settings) * settings.save_interval,
        last=total_steps(len(rows), settings),
    )
    checkpoints = Checkpoints(calendar, minutes=settings.resume_minutes, folder=folder, save=save)
    callbacks: list[TrainerCallback] = [_Steps(loss, calendar, on_step), checkpoints]
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
        evaluator=None if selection is None else _Evaluator(selection.evaluate),
        callbacks=callbacks,
    )
    trainer.alarms = settings.alarms
    trainer.calendar = calendar
    trainer.remove_callback(PrinterCallback)  # stdout is for data
    outcome = trainer.train(resume_from_checkpoint=last_whole_checkpoint(folder))
    if not math.isfinite(outcome.training_loss):  # of steps after the last line of the log, too
        raise TrainingStoppedError(f"the loss is {outcome.training_loss} at the end")
    return Outcome(
        log=[_log_entry(entry) for entry in trainer.state.log_history if _is_logged(entry)],
        steps=trainer.state.global_step,
        best_step=best_step(trainer.state),
        memory_retries=tuple(trainer.memory_retries),
    )


def _check_batches(rows: int, settings: TrainerSettings) -> None:
    if rows < settings.batch_size:
        raise ValueError(f"{rows} training rows are fewer than a batch of {settings.batch_size}")
    if settings.batch_size % world_size():
        raise ValueError(
            f"{world_size()} ranks cannot share a batch of {settings.batch_size} evenly"
        )


def _is_logged(entry: Mapping[str, float]) -> bool:
    return "loss" in entry or f"eval_{SCORE}" in entry


def _log_entry(entry: Mapping[str, float]) -> dict[str, float]:
    timings = ("_runtime", "_per_second")
    return {key: value for key, value in entry.items() if not key.endswith(timings)}


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
        batch_sampler=LikeLengthBatchSampler
        if settings.group_by_length
        else BatchSamplers.NO_DUPLICATES,
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


class RetrievalTrainer(SentenceTransformerTrainer):
    """Logs all terms and both learning rates by name, stops at NaN and at collapse."""

    alarms = True
    calendar: Calendar

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.memory_retries: list[dict[str, int]] = []
        self._alarming_lines = 0

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Collect nothing for a model card: a run writes its own."""

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Tensor:  # noqa: ANN401
        """One batch; under GradCache, memory that gives out is answered by smaller micro-batches.

        The gradients of the whole batch are the same, but for the dropout masks.
        """
        while True:
            try:
                return super().training_step(model, inputs, *rest, **more)  # type: ignore[no-any-return]
            except torch.OutOfMemoryError:
                self._halve_micro_batch()

    def _halve_micro_batch(self) -> None:
        size = self.loss.mini_batch_size
        alone = world_size() == 1 and self.args.gradient_accumulation_steps == 1
        if not self.loss.uses_gradient_cache or size == 1 or not alone:
            raise
        self.loss.mini_batch_size = size // 2
        self.memory_retries.append(
            {"step": self.state.global_step + 1, "mini_batch_size": size // 2}
        )
        self.optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to each training line what the Trainer cannot know."""
        if "loss" in logs:
            step = self.state.global_step
            if not math.isfinite(logs["loss"]):
                raise TrainingStoppedError(f"the loss is {logs['loss']} at step {step}")
            logs.pop("learning_rate", None)  # of group 0, which may be empty
            logs |= self._terms() | self._learning_rates()
            self._check(logs)
        super().log(logs, start_time)

    def _terms(self) -> dict[str, float]:
        """Raw terms, shares of the loss and of its gradient, and isotropy, since the last line."""
        loss: RetrievalLoss = self.loss
        means = loss.take_means()
        accuracy = means.pop("accuracy")
        parts = {k: loss.settings.weights[k] * v for k, v in means.items()}
        logs = {f"raw_{name}": value for name, value in means.items()} | {"accuracy": accuracy}
        logs |= _shares("loss_share", {k: v for k, v in parts.items() if loss.settings.weights[k]})
        norms = {name: float(value) for name, value in loss.gradients.items()}
        loss.gradients = {}
        logs |= _shares("gradient_share", norms)
        rows = loss.take_rows().cpu().numpy()
        try:
            isotropy = measure_isotropy(rows)
        except ValueError:  # too few rows, or all alike
            return logs | {"effective_rank": 1.0, "isotropy_texts": len(rows)}
        return logs | {
            "effective_rank": isotropy.effective_rank,
            "participation_ratio": isotropy.participation_ratio,
            "mean_cosine": isotropy.mean_cosine,
            "isotropy_texts": isotropy.texts,
        }

    def _learning_rates(self) -> dict[str, float]:
        model: Any = getattr(self.model, "_orig_mod", self.model)
        head = {id(p) for position in self._head for p in model[position].parameters()}
        rates: dict[str, float] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"][:1]:
                rates["lr_head" if id(parameter) in head else "lr_base"] = group["lr"]
        return rates

    @property
    def _head(self) -> list[int]:
        keys = self.args.learning_rate_mapping or {}  # ^model\.N\.
        return [int(key.split(".")[1].rstrip("\\")) for key in keys]

    def _check(self, logs: Mapping[str, float]) -> None:
        """Stop at the third line in a row with a sign of collapse, once warm-up is over."""
        if not self.alarms or self.state.global_step <= self.args.get_warmup_steps(
            self.calendar.last
        ):
            return
        found = signs_of_collapse(self._signs(logs))
        self._alarming_lines = self._alarming_lines + 1 if found else 0
        if self._alarming_lines == PATIENCE:
            raise TrainingStoppedError(
                f"the encoder has collapsed by step {self.state.global_step}: {'; '.join(found)}"
            )

    def _signs(self, logs: Mapping[str, float]) -> Signs:
        settings: ObjectiveSettings = self.loss.settings
        batch = self.args.per_device_train_batch_size
        columns = len([c for c in self.train_dataset.column_names if c not in ("query", "label")])
        uses_sigreg = settings.regulariser == "sigreg" and settings.lambda_isotropy > 0
        rows = batch * (2 if settings.pooled else 1)
        factor = rows if settings.scaled_by_batch else 1
        grid: Any = {"knots": settings.knots, "t_max": settings.t_max}
        return Signs(
            accuracy=logs["accuracy"],
            queries=batch * self.calendar.logging_steps,
            passages=batch * columns,
            effective_rank=logs["effective_rank"],
            texts=int(logs["isotropy_texts"]),
            statistic=logs["raw_isotropy"] if uses_sigreg else None,
            collapsed_statistic=factor * collapse_value(**grid),
            null_statistic=factor / rows * null_mean(**grid),
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ANN401
        """The encoder alone: a model card would cost an encoding, and nobody reads it there."""
        self.model.save_pretrained(output_dir, create_model_card=False)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Save nothing that is broken: the last good checkpoint stays the last."""
        for name, value in self.model.named_parameters():
            if not value.isfinite().all():
                raise TrainingStoppedError(f"{name} is not finite at step {self.state.global_step}")
        if not self._alarming_lines:
            super()._save_checkpoint(*args, **kwargs)


def _shares(name: str, parts: Mapping[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {f"{name}_{key}": value / total for key, value in parts.items()} if total else {}


class _Evaluator(SentenceEvaluator):
    """A score of the encoder for the Trainer."""

    def __init__(self, score: Callable[[SentenceTransformer], float]) -> None:
        super().__init__()
        self._score = score

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: ANN401
        return {SCORE: self._score(model)}


class _Steps(TrainerCallback):
    """Tells the loss which step it is, and the caller how many are done."""

    def __init__(
        self, loss: RetrievalLoss, calendar: Calendar, on_step: Callable[[int], None]
    ) -> None:
        self._loss = loss
        self._calendar = calendar
        self._on_step = on_step

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Before the first batch of an optimiser step."""
        self._loss.global_step = state.global_step
        self._loss.measures_gradients = self._calendar.logs(state.global_step + 1)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """After the optimiser has stepped."""
        self._on_step(state.global_step)
