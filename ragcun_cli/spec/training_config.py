"""How the encoder is fine-tuned: the section `[training]` of a profile."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ragcun_cli.spec.errors import ProfileError
from ragcun_cli.spec.measuring_config import Variants
from ragcun_cli.spec.section import NAME, Section


class SigregConfig(Section):
    """SIGReg: the Epps-Pulley test of normality on random directions (arXiv:2511.08544)."""

    slices: int = Field(1024, ge=1, le=65_536)
    """Random unit directions, drawn afresh at every step."""

    knots: int = Field(17, ge=3, le=999)
    """Points of the trapezoid rule on [0, t_max]; odd, as in the official library. The paper's
    grid, 17 on [-5, 5], is 9 with t_max 5."""

    t_max: float = Field(3.0, gt=0)
    """End of the integration range."""

    scaled_by_batch: bool = True
    """Multiply the statistic by the number of rows, as the official one does; without, lambda
    carries over between batch sizes."""

    pooled: bool = False
    """Test queries and positives as one sample; else each by itself, and the mean of both."""

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.knots % 2 == 0:
            raise ValueError(f"knots must be odd, got {self.knots}")
        return self


Named = Annotated[str, Field(pattern=NAME)]


class SelectionConfig(Section):
    """How the best encoder of a training is chosen; without queries, the last one is kept."""

    queries: int = Field(0, ge=0)
    """Queries of each set to score on, a seeded sample; 0 keeps the encoder of the last step."""

    dataset: Named | tuple[Named, ...] | None = None
    """Data set they are of, or several, each of which weighs the same; none means the training set,
    and msmarco-select for msmarco."""

    split: Literal["train", "dev", "test"] | None = None
    """Of its judgements; none means `train` of the training set, `dev` of another. Training rows
    with a query of the selection are left out, and of the selection queries that the set's own test
    has in the same words; one that another test set of the plan has is refused."""

    passages: int = Field(10_000, ge=10)
    """Passages of each set to rank: those judged for the queries, and a seeded sample of the
    others."""

    variants: Variants = ()
    """Smaller forms of the embeddings that are scored too, as in `evaluation.variants`; each counts
    as much as the embeddings themselves."""

    every: int = Field(500, ge=1)
    """Steps between scores (nDCG@10)."""

    patience: int | None = Field(None, ge=1)
    """End the training after so many scores in a row without a better one."""


class TrainingConfig(Section):
    """How the encoder is fine-tuned."""

    WITHOUT_EFFECT_ON_NUMBERS: ClassVar = (
        "save_interval",
        "resume_minutes",
        "logging_steps",
        "report_to",
        "probe_texts",
    )

    freeze_base: bool = False
    """Train the head alone."""

    base_learning_rate: float = Field(1e-5, gt=0)
    """Peak AdamW step of the base encoder."""

    projection_learning_rate: float = Field(5e-4, gt=0)
    """Peak AdamW step of the projection head."""

    contrastive: Literal["euclidean", "cosine", "dot"] = "euclidean"
    """Similarity inside InfoNCE, and the one the saved model retrieves with."""

    scale: float = Field(20.0, gt=0)
    """Inverse temperature on the cosine's scale: logits are scale * cosine; for Euclidean
    -||q - d||^2 / T, T = 2 * output_dim / scale; for dot q.d / T, T = output_dim / scale."""

    symmetric: bool = False
    """Let each positive pick its query too, and take the mean of both directions."""

    combination: Literal["sum", "convex"] = "sum"
    """`sum` adds the weighted isotropy term to the contrastive one, as in the original plan;
    `convex` takes (1 - lambda_isotropy) of the contrastive one, as in the LeJEPA paper."""

    lambda_isotropy: float = Field(0.0, ge=0)
    """Weight of the isotropy term; 0 leaves it out of the loss and still logs it."""

    lambda_reg: float = Field(0.0, ge=0)
    """Weight of the variance term (s - 1)^2, s the standard deviation of all entries; 0 leaves it
    out of the loss and still logs it."""

    regulariser: Literal["sigreg", "spread_out", "vicreg"] = "sigreg"
    """What the isotropy term is: SIGReg; the global orthogonal regulariser GOR; or the distance of
    mean, variance and covariance from those of N(0, I), after VICReg."""

    average_with_base: float = Field(0.0, ge=0, lt=1)
    """Share of the start in the weights that are kept and scored: (1 - share) of the trained ones
    and share of those before the first step, which rank as the base does (arXiv:2109.01903)."""

    sigreg: SigregConfig = SigregConfig()

    selection: SelectionConfig = SelectionConfig()

    epochs: int = Field(3, ge=1)
    """Passes over the training rows."""

    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimiser steps; none means all epochs."""

    batch_size: int = Field(16, ge=2)
    """Rows of one batch, over all devices: what InfoNCE tells apart, and SIGReg's sample."""

    mini_batch_size: int | None = Field(None, ge=1)
    """Encode so many rows at once on a device by GradCache: the memory of this many rows, the loss
    of the whole batch, the time of one more forward pass. None encodes the batch at once."""

    group_by_length: bool = False
    """Batches of texts of like length: less padding, but SIGReg then sees samples that are not the
    corpus's. Parts of a batch under GradCache are sorted by length anyway."""

    gradient_accumulation_steps: int = Field(1, ge=1)
    """Batches summed before an optimiser step. InfoNCE and SIGReg still see one batch at a time;
    mini_batch_size saves memory without that loss."""

    warmup_steps: float = Field(1000, ge=0)
    """Steps of linear warm-up; below 1, a share of all steps. At most half of them."""

    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast precision; losses are computed in fp32 whatever it is."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    compile: bool = False
    """Compile the model with torch.compile."""

    cache_frozen_base: bool = True
    """With a frozen base, encode each text through it once, keep the outputs on disk and train the
    head on them: the same numbers up to rounding, many times faster."""

    alarms: bool = True
    """Stop when the encoder has diverged or collapsed: a contrastive term ten times that of
    uninformed logits, in-batch accuracy at chance, embeddings along one direction, or SIGReg at the
    value of a single point, for three lines of the log in a row. Losses and gradients that are not
    finite stop a training whatever this says."""

    save_interval: int = Field(1, ge=1)
    """Epochs between checkpoints that are kept as encoders, beside the model at the end."""

    resume_minutes: float = Field(15.0, ge=0)
    """Minutes between checkpoints to resume from, written with the next line of the log; the newest
    two are kept until the training is done."""

    logging_steps: int = Field(50, ge=1)
    """Steps between lines of the training log."""

    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Send the training log to an experiment tracker, too; it has to be installed."""

    probe_texts: int = Field(2000, ge=0)
    """Training texts encoded before the first step to say what the isotropy term can see at this
    batch size; 0 leaves the probe out."""

    def steps(self, rows: int) -> int:
        """Optimiser steps on so many training rows; an incomplete last batch is dropped."""
        batches = rows // self.batch_size
        steps = math.ceil(batches / self.gradient_accumulation_steps) * self.epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def check_rows(self, rows: int, *, label: str) -> None:
        """Hold batch and warm-up against at most so many training rows.

        Raises:
            ProfileError: they are fewer than a batch; or the warm-up is more than half of the steps
                on them: the rates would hardly reach their peak.
        """
        if rows < self.batch_size:
            raise ProfileError(
                f"{label}: there are {rows:,} training rows, and a batch has {self.batch_size:,}",
                hint=f"--set training.batch_size={max(2, rows // 2)}, or more training queries",
            )
        steps = self.steps(rows)
        warmup = self.warmup_steps * (1 if self.warmup_steps >= 1 else steps)
        if 2 * warmup > steps > 0:
            raise ProfileError(
                f"{label}: a warm-up of {warmup:,.0f} steps is more than half of the {steps:,} of "
                "the whole training",
                hint=f"the same command with --set training.warmup_steps={steps // 10}",
            )

    @model_validator(mode="after")
    def _whole_warmup(self) -> Self:
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            raise ValueError(
                f"warmup_steps is a whole number of steps or a share below 1, "
                f"got {self.warmup_steps}"
            )
        return self

    @model_validator(mode="after")
    def _terms_share_one(self) -> Self:
        if self.combination == "convex" and self.lambda_isotropy >= 1:
            raise ValueError(
                f"combination 'convex' leaves 1 - lambda_isotropy for the contrastive term, and "
                f"lambda_isotropy is {self.lambda_isotropy:g}; the LeJEPA paper takes 0.05"
            )
        return self

    @model_validator(mode="after")
    def _parts_of_a_batch(self) -> Self:
        if self.mini_batch_size is not None and self.mini_batch_size > self.batch_size:
            raise ValueError(
                f"mini_batch_size {self.mini_batch_size} is larger than batch_size "
                f"{self.batch_size}"
            )
        return self
