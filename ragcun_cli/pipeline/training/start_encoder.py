"""The encoder of a run before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from torch import Tensor

from ragcun_cli.core.draw import START, smallest
from ragcun_cli.core.model import (
    HEAD_MODULES,
    as_served,
    build_encoder,
    parameter_counts,
    without_dropout,
    without_normalize,
)
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.base_outputs import keep_base
from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, encode, kept_base_of, set_kept_base
from ragcun_cli.pipeline.encoders.find import FoundEncoder, load_encoder
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.training.job import objective_settings
from ragcun_cli.pipeline.training.model_card import write_model_card
from ragcun_cli.spec.paths import MODEL, OutputsFolder
from ragcun_cli.spec.profile import RunProfile


def start_encoder(
    profile: RunProfile,
    encoder: FoundEncoder,
    dataset: Path,
    *,
    device: str,
    progress: Progress,
    outputs: OutputsFolder | None = None,
) -> SentenceTransformer:
    """The base with its head; a random head is drawn from torch's global generator.

    Args:
        profile: of the run.
        encoder: the base.
        dataset: that a linear head starts from.
        device: of the encoder.
        progress: is told.
        outputs: where those of the base are kept and looked up; only of one that stays as it is.
    """
    config = profile.encoder
    base = start_base(profile, encoder, device=device, progress=progress, outputs=outputs)
    if config.head.kind == "none":
        base.similarity_fn_name = profile.training.contrastive
        return base
    linear = config.head.init == "linear"
    sample = start_sample(profile, base, dataset, progress) if linear else None
    model = build_encoder(
        base,
        output_dim=config.output_dim,
        dropout=config.head.dropout,
        similarity=profile.training.contrastive,
        linear_start=sample,
        whitening=config.head.whitening,
        rotation_seed=None if config.head.rotation == "none" else config.head.rotation_seed,
    )
    set_kept_base(model, kept_base_of(base))
    return model


def start_base(
    profile: RunProfile,
    encoder: FoundEncoder,
    *,
    device: str,
    progress: Progress,
    outputs: OutputsFolder | None,
) -> SentenceTransformer:
    """What a head stands on, as `start_encoder` has it."""
    base = as_served(load_encoder(encoder, profile.encoder, device=device))
    if profile.encoder.head.kind == "none":
        return base
    if not profile.encoder.normalize_base:
        base = without_normalize(base)
    if outputs is not None:
        keep_base(base, outputs, head=0, progress=progress)
    return base


def start_sample(
    profile: RunProfile, base: SentenceTransformer, dataset: Path, progress: Progress
) -> Tensor:
    """``(n, d)`` outputs of a base for passages of the training set, on the CPU.

    The same passages for every seed: those whose ids have the smallest digests.
    """
    corpus = Corpus.open(dataset)
    chosen = smallest(START, corpus.ids, profile.encoder.head.init_passages)
    texts = corpus.texts_by_id(sorted(chosen))
    how: Any = {"batch_size": BATCH_TEXTS, "label": "head start", "progress": progress}
    return encode(base, texts, side="document", **how).cpu()


def head_modules(model: SentenceTransformer, profile: RunProfile) -> Sequence[int]:
    """Positions of the modules with the head's parameters."""
    if profile.encoder.head.kind == "none":
        return ()
    return len(model) - HEAD_MODULES, len(model) - 1


def save_with_card(
    model: SentenceTransformer, folder: Path, run: Run, encoder: FoundEncoder
) -> None:
    """Save a run's encoder as a sentence-transformer that says what it is."""
    without_dropout(model).save(str(folder), create_model_card=False)
    weights = objective_settings(run.profile).weights
    write_model_card(folder / "README.md", run=run, encoder=encoder, weights=weights)


def save_reference(
    model: SentenceTransformer, draft: Path, run: Run, encoder: FoundEncoder
) -> dict[str, Any]:
    """Save the encoder of a row that nothing was trained for; what its record says of it."""
    save_with_card(model, draft / MODEL, run, encoder)
    counts = parameter_counts(model)
    return {**counts, "trainable_parameters": 0, "encoder": encoder.provenance()}
