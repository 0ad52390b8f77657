"""The encoder of a run before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sentence_transformers import SentenceTransformer

from ragcun_cli.core.draw import START, smallest
from ragcun_cli.core.model import HEAD_MODULES, as_served, build_encoder, without_normalize
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.base_outputs import keep_base
from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, encode, kept_base_of, set_kept_base
from ragcun_cli.pipeline.encoders.find import FoundEncoder, load_encoder
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.paths import OutputsFolder
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
    base = as_served(load_encoder(encoder, config, device=device))
    if config.head.kind == "none":
        base.similarity_fn_name = profile.training.contrastive
        return base
    if not config.normalize_base:
        base = without_normalize(base)
    if outputs is not None:
        keep_base(base, outputs, head=0, progress=progress)
    sample = None
    if config.head.init == "linear":
        texts = _start_passages(dataset, count=config.head.init_passages)
        sample = encode(
            base,
            texts,
            side="document",
            batch_size=BATCH_TEXTS,
            label="head start",
            progress=progress,
        ).cpu()
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


def _start_passages(dataset: Path, *, count: int) -> list[str]:
    """The same passages for every seed: those whose ids have the smallest digests."""
    corpus = Corpus.open(dataset)
    return corpus.texts_by_id(sorted(smallest(START, corpus.ids, count)))


def head_modules(model: SentenceTransformer, profile: RunProfile) -> Sequence[int]:
    """Positions of the modules with the head's parameters."""
    if profile.encoder.head.kind == "none":
        return ()
    return len(model) - HEAD_MODULES, len(model) - 1
