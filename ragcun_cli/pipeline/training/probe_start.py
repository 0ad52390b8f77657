"""What a person is told about the isotropy term before the first step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from torch import nn

from ragcun_cli.core.collective import apart
from ragcun_cli.core.model import HEAD_MODULES
from ragcun_cli.core.training.probe import Probe, probe
from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, encode, kept_base_of, set_kept_base
from ragcun_cli.pipeline.encoders.look import MANY, MOSTLY, SAMPLE_TEXTS, unknown_share
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.training.job import Job, objective_settings
from ragcun_cli.pipeline.training.start_encoder import head_modules
from ragcun_cli.spec.errors import EncoderError


def probe_start(
    job: Job, model: SentenceTransformer, rows: Dataset, progress: Progress
) -> Probe | None:
    """Say what SIGReg can see before training, and what its weight would be elsewhere."""
    training = job.profile.training
    pairs = min(training.probe_texts // 2, len(rows))
    if pairs < 3:
        return None
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(job.seed))
    some = rows.select(order[:pairs].tolist())
    head = nn.Sequential(*(model[position] for position in head_modules(model, job.profile)))
    modules = list(model)[:-HEAD_MODULES] if head else list(model)
    base = SentenceTransformer(modules=modules, device=str(model.device))
    set_kept_base(base, kept_base_of(model))
    sides = [
        encode(
            base,
            some[column],
            prompt=model.prompts.get(side, ""),
            batch_size=BATCH_TEXTS,
            precision=training.precision,
            label=f"probe, {column} texts",
            progress=progress,
        )
        for column, side in (("query", "query"), ("positive", "document"))
    ]
    settings = objective_settings(job.profile)
    with apart():
        size, seed = training.batch_size, job.seed
        seen = probe(*sides, settings=settings, batch_size=size, seed=seed, head=head)
    progress.note(_in_a_line(seen))
    for line in _probe_lines(seen):
        progress.detail(line)
    return seen


def say_unknown(job: Job, model: SentenceTransformer, rows: Dataset, progress: Progress) -> None:
    """Say how much of the texts the base's tokenizer does not know, where that is much.

    Raises:
        EncoderError: it is nearly all.
    """
    some = rows[:SAMPLE_TEXTS]
    share = unknown_share(model.tokenizer, [*some["query"], *some["positive"]])
    said = f"{share:.0%} of the tokens of training texts are unknown to the tokenizer of"
    if share > MOSTLY:
        raise EncoderError(f"{said} '{job.encoder.name}'", hint="an encoder of their language")
    if share > MANY:
        progress.note(f"{said} {job.encoder.name}")


def _in_a_line(seen: Probe) -> str:
    shares = seen.head_gradient_shares or seen.gradient_shares
    return (
        f"probe: participation ratio {seen.participation_ratio:.0f} of {seen.dimensions}, SIGReg "
        f"{seen.signal:.1f} spreads above N(0, I), gradient {_listed(shares)}; more in the run's "
        "manifest.json and with --verbose"
    )


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _probe_lines(seen: Probe) -> list[str]:
    measured = "" if seen.measured is None else f", measured {seen.measured:.3g}"
    lines = [
        f"  {seen.texts:,} texts, batch {seen.batch_size}: participation ratio "
        f"{seen.participation_ratio:.0f} of {seen.dimensions}, mean offset {seen.mean_offset:.0%}, "
        f"mean square {seen.mean_square:.3g}",
        f"  SIGReg expected {seen.expected:.3g}{measured}; N(0, I) gives {seen.null_mean:.3g} "
        f"± {seen.null_std:.2g}: {seen.signal:.1f} spreads above it",
        f"  this participation ratio alone shows from batch {seen.visible_batch:,.0f} on",
    ]
    for what, shares in (
        ("with respect to the embeddings", seen.gradient_shares),
        ("on the head's parameters", seen.head_gradient_shares),
    ):
        lines += [f"  gradient {what}: {_listed(shares)}"] * bool(shares)
    if seen.carried_over:
        weights = ", ".join(f"{weight:.3g} at {size}" for size, weight in seen.carried_over.items())
        lines.append(
            f"  a starting point for lambda_isotropy in larger batches, with the same share on the "
            f"head's parameters: {weights}"
        )
    return lines
