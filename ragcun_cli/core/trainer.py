"""What `SentenceTransformerTrainer` lacks: a log with all terms, alarms, memory that gives out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from torch import Tensor
from transformers import TrainerCallback, TrainerState, TrainingArguments, set_seed

from ragcun_cli.core.collective import world_size
from ragcun_cli.core.isotropy.spectrum import measure_isotropy
from ragcun_cli.core.objective.retrieval_loss import MASKED, RetrievalLoss
from ragcun_cli.core.objective.sigreg import collapse_value, null_mean
from ragcun_cli.core.objective.terms import ObjectiveSettings
from ragcun_cli.core.training import alarms as signs
from ragcun_cli.core.training.checkpoints import SCORE, Calendar
from ragcun_cli.core.training.random_state import random_state

_RETRY = "mini_batch_size"


class TrainingStoppedError(RuntimeError):
    """The numbers went wrong, and going on would have wasted time; checkpoints are as they were."""


class RetrievalTrainer(SentenceTransformerTrainer):
    """Logs all terms and both learning rates by name, stops at NaN, divergence and collapse."""

    alarms = True
    calendar: Calendar
    head_modules: Sequence[int]

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self._alarming_lines = 0
        self._was_clear = False
        self._is_over = False  # by a checkpoint that nothing follows
        self._queries = 0  # in the line of the log that is being written
        self._broken_norms: Tensor | int = 0  # of gradients, in this line

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Collect nothing for a model card: a run writes its own."""

    def _load_callback_state(self) -> None:
        """Note an end that the Trainer forgets: it would take a step more than there are."""
        super()._load_callback_state()
        self._is_over = self.control.should_training_stop

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if self._is_over:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Tensor:  # noqa: ANN401
        """One batch; under GradCache, memory that gives out is answered by smaller micro-batches.

        The gradients of the whole batch are the same, but for the dropout masks.
        """
        loss: RetrievalLoss = self.loss
        while True:
            before = loss.seen()
            try:
                return super().training_step(model, inputs, *rest, **more)  # type: ignore[no-any-return]
            except torch.OutOfMemoryError:
                self._halve_micro_batch()
                loss.forget_since(before)

    def _halve_micro_batch(self) -> None:
        size = self.loss.mini_batch_size
        alone = world_size() == 1 and self.args.gradient_accumulation_steps == 1
        if not self.loss.uses_gradient_cache or size == 1 or not alone:
            raise
        self.loss.mini_batch_size = size // 2
        retry = {"step": self.state.global_step + 1, _RETRY: size // 2}
        self.state.log_history.append(retry)  # part of every checkpoint
        self.optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:  # noqa: ANN401
        """The norm of a step's gradient; counts those that are not finite, on the device."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._broken_norms += ~torch.as_tensor(norm).isfinite()
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to each training line what the Trainer cannot know; None for what is not finite."""
        if "loss" in logs:
            self._refuse_broken_line(logs["loss"])
            logs.pop("learning_rate", None)  # of group 0, which may be empty
            logs |= self._terms() | self._learning_rates()
            self._check(logs)
        finite: Any = {k: v if math.isfinite(v) else None for k, v in logs.items()}
        super().log(finite, start_time)

    def _refuse_broken_line(self, loss: float) -> None:
        """Stop where the loss is not finite, or a gradient that no scaler of fp16 makes good."""
        step = self.state.global_step
        if not math.isfinite(loss):
            raise TrainingStoppedError(f"the loss is {loss} at step {step}")
        broken, self._broken_norms = int(self._broken_norms), 0
        if broken and self.accelerator.scaler is None:
            raise TrainingStoppedError(f"the norm of the gradient is not finite at step {step}")

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Log, score, save: what draws random numbers there moves none of the training's."""
        control = self.control
        if control.should_log or control.should_evaluate or control.should_save:
            self._as_in_training = random_state()
            set_seed(self.args.seed)
            super()._maybe_log_save_evaluate(*args, **kwargs)
            self._as_in_training()

    def _save_rng_state(self, output_dir: str) -> None:
        """The training's, not that of a score before it."""
        self._as_in_training()
        super()._save_rng_state(output_dir)

    def _terms(self) -> dict[str, float]:
        """Raw terms, shares of the loss and of its gradient, and isotropy, since the last line."""
        loss: RetrievalLoss = self.loss
        self._queries = loss.batches * self.args.per_device_train_batch_size
        means = loss.take_means()
        facts = {name: means.pop(name) for name in ("accuracy", MASKED) if name in means}
        parts = {k: loss.settings.weights[k] * v for k, v in means.items()}
        logs = {f"raw_{name}": value for name, value in means.items()} | facts
        logs |= _shares("loss_share", {k: v for k, v in parts.items() if loss.settings.weights[k]})
        for kind, norms in loss.gradients.items():
            logs |= _shares(kind, {name: float(value) for name, value in norms.items()})
        loss.gradients = {}
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
        head = {id(p) for position in self.head_modules for p in model[position].parameters()}
        rates: dict[str, float] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"][:1]:
                rates["lr_head" if id(parameter) in head else "lr_base"] = group["lr"]
        return rates

    def _check(self, logs: Mapping[str, float]) -> None:
        """Stop at the third line in a row with a sign of divergence, at the last line with one.

        And at the third with a sign of collapse, once warm-up is over.
        """
        if not self.alarms:
            return
        step, seen = self.state.global_step, self._signs(logs)
        diverged = signs.signs_of_divergence(seen)
        found = list(diverged)
        if not math.isfinite(logs["grad_norm"]):  # fp16's scaler steps over some of them
            found.append("the norm of the gradient is not finite")
        what = "diverged" if found else "collapsed"
        if step > self.args.get_warmup_steps(self.calendar.last):
            found += signs.signs_of_collapse(seen)
        self._alarming_lines = self._alarming_lines + 1 if found else 0
        if self._alarming_lines == signs.PATIENCE or (diverged and step == self.calendar.last):
            raise TrainingStoppedError(f"the encoder has {what} by step {step}: {'; '.join(found)}")

    def _signs(self, logs: Mapping[str, float]) -> signs.Signs:
        settings: ObjectiveSettings = self.loss.settings
        batch = self.args.per_device_train_batch_size
        columns = len([c for c in self.train_dataset.column_names if c not in ("query", "label")])
        grid: Any = {"knots": settings.knots, "t_max": settings.t_max}
        uses_sigreg = settings.regulariser == "sigreg" and settings.lambda_isotropy > 0
        rows = batch * (2 if settings.pooled else 1)
        factor = rows if settings.scaled_by_batch else 1
        collapsed = factor * collapse_value(**grid)
        self._was_clear |= not signs.is_near(logs["raw_isotropy"], collapsed)
        return signs.Signs(
            contrastive=logs["raw_contrastive"],
            accuracy=logs["accuracy"],
            queries=self._queries,
            passages=batch * columns,
            effective_rank=logs["effective_rank"],
            texts=int(logs["isotropy_texts"]),
            statistic=logs["raw_isotropy"] if uses_sigreg else None,
            collapsed_statistic=collapsed,
            was_clear=self._was_clear,
            null_statistic=factor / rows * null_mean(**grid),
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ANN401
        """The encoder alone: a model card would cost an encoding, and nobody reads it there."""
        self.model.save_pretrained(output_dir, create_model_card=False)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Save nothing that is broken: the last good checkpoint stays the last."""
        refuse_broken(self.model, step=self.state.global_step, optimiser=self.optimizer)
        if not self._alarming_lines:
            super()._save_checkpoint(*args, **kwargs)


def refuse_broken(model: SentenceTransformer, *, step: int, optimiser: Any = None) -> None:  # noqa: ANN401
    """Stop where a weight is NaN or infinite, or what an optimiser remembers of its gradients.

    Raises:
        TrainingStoppedError: one is.
    """
    values = list(model.named_parameters())
    for state in [] if optimiser is None else optimiser.state.values():
        values += [(f"the optimiser's {name}", value) for name, value in state.items()]
    for name, value in values:
        if not torch.as_tensor(value).isfinite().all():
            raise TrainingStoppedError(f"{name} is not finite at step {step}")


def memory_retries(state: TrainerState) -> list[dict[str, int]]:
    """Each time that memory gave out: the step, and the micro-batch size from there on."""
    return [
        {"step": entry["step"], _RETRY: entry[_RETRY]}
        for entry in state.log_history
        if _RETRY in entry
    ]


def _shares(name: str, parts: Mapping[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {f"{name}_{key}": value / total for key, value in parts.items()} if total else {}


class ScoreEvaluator(SentenceEvaluator):
    """A score of the encoder for the Trainer."""

    def __init__(self, score: Callable[[SentenceTransformer], Mapping[str, float]]) -> None:
        super().__init__()
        self._score = score

    def __call__(
        self,
        model: SentenceTransformer,
        output_path: str | None = None,
        epoch: float = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """nDCG@10 under the name that the Trainer's settings know, and what it is the mean of."""
        refuse_broken(model, step=steps)
        parts = self._score(model)
        return {SCORE: mean(parts.values()), **(parts if len(parts) > 1 else {})}


class Steps(TrainerCallback):
    """Tells the loss which step it is, and the caller how many are done."""

    def __init__(
        self,
        loss: RetrievalLoss,
        calendar: Calendar,
        on_step: Callable[[int], None],
        on_log: Callable[[Mapping[str, float]], None],
    ) -> None:
        self._loss = loss
        self._calendar = calendar
        self._on_step = on_step
        self._on_log = on_log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, *rest: object, **more: object
    ) -> None:
        """Begin with the seed, whatever drew before it, and the micro-batches before a kill."""
        set_seed(args.seed)
        for retry in memory_retries(state):
            self._loss.mini_batch_size = retry[_RETRY]

    def on_step_begin(
        self, args: object, state: TrainerState, *rest: object, **more: object
    ) -> None:
        """Before the first batch of an optimiser step."""
        self._loss.global_step = state.global_step
        self._loss.measures_gradients = self._calendar.logs(state.global_step + 1)

    def on_step_end(self, args: object, state: TrainerState, *rest: object, **more: object) -> None:
        """After the optimiser has stepped."""
        self._on_step(state.global_step)

    def on_log(self, args: object, state: TrainerState, *rest: object, **more: object) -> None:
        """After a line of the log."""
        self._on_log(state.log_history[-1])
