"""Fine-tune an encoder with `SentenceTransformerTrainer`; what is ours are the loss and the log."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers
from torch import nn
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ragcun_cli.core.losses import ObjectiveSettings, RetrievalLoss

Log = list[dict[str, float]]


@dataclass(frozen=True)
class TrainerSettings:
    """How the optimiser runs; the loss has settings of its own."""

    epochs: int
    max_steps: int | None
    batch_size: int
    gradient_accumulation_steps: int
    warmup_steps: float
    max_grad_norm: float
    base_learning_rate: float
    projection_learning_rate: float
    precision: Literal["fp32", "bf16", "fp16"]
    gradient_checkpointing: bool
    compile: bool
    save_interval: int
    logging_steps: int
    seed: int
    device: str


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
    checkpoints: Path,
    on_step: Callable[[int], None],
) -> Log:
    """Train in place and return the training log; go on from the last checkpoint if there is one.

    Args:
        model: the encoder, its frozen parts frozen already.
        rows: columns ``query``, ``positive``, ``negative_1`` ... of texts.
        objective: the loss.
        settings: the optimiser.
        head_modules: positions of the modules that learn at the projection's rate; each has
            parameters.
        checkpoints: folder for them; only an earlier attempt at this very training may have
            written there.
        on_step: told the number of finished steps after each.

    Raises:
        ValueError: fewer rows than a batch.
        FloatingPointError: the loss is not finite.
    """
    if len(rows) < settings.batch_size:
        raise ValueError(
            f"{len(rows)} training rows are fewer than a batch of {settings.batch_size}"
        )
    loss = RetrievalLoss(model, objective, seed=settings.seed)
    trainer = RetrievalTrainer(
        model=model,
        args=training_arguments(
            settings, rows=len(rows), head_modules=head_modules, checkpoints=checkpoints
        ),
        train_dataset=rows,
        loss=loss,
        callbacks=[_Steps(loss, on_step)],
    )
    trainer.remove_callback(PrinterCallback)  # stdout is for data
    outcome = trainer.train(resume_from_checkpoint=last_whole_checkpoint(checkpoints))
    if not math.isfinite(outcome.training_loss):  # of steps after the last line of the log, too
        raise FloatingPointError(f"the loss is {outcome.training_loss} at the end of the training")
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; those that a kill cut short are removed.

    The Trainer writes its state last, so a state that can be read vouches for the rest.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(found):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None


def training_arguments(
    settings: TrainerSettings, *, rows: int, head_modules: Sequence[int], checkpoints: Path
) -> SentenceTransformerTrainingArguments:
    """The Trainer's own settings."""
    every = steps_per_epoch(rows, settings) * settings.save_interval
    whole_warmup = settings.warmup_steps >= 1 or settings.warmup_steps == 0
    return SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        max_steps=total_steps(rows, settings),
        per_device_train_batch_size=settings.batch_size,
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
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        dataloader_drop_last=True,
        dataloader_pin_memory=settings.device != "cpu",
        use_cpu=settings.device == "cpu",
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )


class RetrievalTrainer(SentenceTransformerTrainer):
    """Logs the unweighted terms and both learning rates by name, and stops at NaN."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Collect nothing for a model card: a run writes its own."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to each training line what the Trainer cannot know."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise FloatingPointError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}"
                )
            logs.pop("learning_rate", None)  # of group 0, which may be empty
            logs |= {f"raw_{name}": float(value) for name, value in self.loss.raw.items()}
            logs |= self._learning_rates()
        super().log(logs, start_time)

    def _learning_rates(self) -> dict[str, float]:
        names = {id(p): name for name, p in self.loss.named_parameters()}
        rates: dict[str, float] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"][:1]:
                position = int(re.match(r"model\.(\d+)\.", names[id(parameter)])[1])  # type: ignore[index]
                rates["lr_head" if position in self._head else "lr_base"] = group["lr"]
        return rates

    @property
    def _head(self) -> set[int]:
        return {int(re.findall(r"\d+", key)[0]) for key in self.args.learning_rate_mapping}


class _Steps(TrainerCallback):
    """Tells the loss which step it is, and the caller how many are done."""

    def __init__(self, loss: nn.Module, on_step: Callable[[int], None]) -> None:
        self._loss = loss
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

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """After the optimiser has stepped."""
        self._on_step(state.global_step)
