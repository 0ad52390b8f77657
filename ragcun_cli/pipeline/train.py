"""Make the model of one run: fine-tuned, or set up as the reference it is."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.losses import ObjectiveSettings
from ragcun_cli.core.model import build_encoder, freeze, parameter_counts, without_normalize
from ragcun_cli.core.trainer import TrainerSettings, total_steps, train_encoder
from ragcun_cli.pipeline.data import beir
from ragcun_cli.pipeline.devices import check_precision
from ragcun_cli.pipeline.encode import encode
from ragcun_cli.pipeline.encoders import FoundEncoder, load_encoder
from ragcun_cli.pipeline.mine import read_rows
from ragcun_cli.pipeline.model_card import write_model_card
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.spec.errors import DataError, StageFailedError
from ragcun_cli.spec.paths import MODEL, NEGATIVES, TRAINING_LOG
from ragcun_cli.spec.profile import RunProfile

HEAD_MODULES = 3
ELAPSED = "elapsed_seconds"


def train(
    run: Run,
    draft: Path,
    *,
    encoder: FoundEncoder,
    dataset: Path,
    negatives: Path,
    device: str,
    progress: Progress,
) -> dict[str, Any]:
    """Fine-tune the run's encoder, save it with its log, and return what it cost.

    Raises:
        DataError: fewer training rows than a batch.
        StageFailedError: the loss became NaN or infinite.
    """
    profile, seed = run.profile, run.seed
    assert seed is not None
    check_precision(profile.training.precision, device)
    torch.manual_seed(seed)
    model = _start(profile, encoder, dataset, device=device, progress=progress)
    head = _head_modules(model, profile)
    if profile.training.freeze_base:
        freeze(list(model)[:-HEAD_MODULES])
    settings = _trainer_settings(profile, seed=seed, device=device)
    rows = _training_rows(dataset, negatives / NEGATIVES)
    steps = total_steps(len(rows), settings)
    clock = _Clock(draft / ELAPSED)
    try:
        with progress.bar(f"train {run.label}", total=steps, unit="steps") as advance:
            log = train_encoder(
                model,
                rows,
                objective=objective_settings(profile),
                settings=settings,
                head_modules=head,
                checkpoints=draft / "checkpoints",
                on_step=_stepper(advance, clock),
            )
    except FloatingPointError as error:
        raise StageFailedError(
            f"training {run.label} stopped: {error}",
            hint=f"ragcun train --profile {profile.name} --set training.base_learning_rate="
            f"{profile.training.base_learning_rate / 2:g}",
        ) from error
    except ValueError as error:
        raise DataError(f"training {run.label}: {error}") from error
    _save(model, draft, run, encoder)
    text = "".join(json.dumps(entry) + "\n" for entry in log)
    (draft / TRAINING_LOG).write_text(text, encoding="utf-8")
    seconds = clock.seconds()
    seen = steps * settings.batch_size * settings.gradient_accumulation_steps
    return {
        **parameter_counts(model),
        "encoder": encoder.provenance(),
        "rows": len(rows),
        "steps": steps,
        "training_seconds": round(seconds, 1),
        "examples_per_second": round(seen / seconds, 2),
        "precision": profile.training.precision,
    }


def set_up_pca(
    run: Run,
    draft: Path,
    *,
    encoder: FoundEncoder,
    dataset: Path,
    device: str,
    progress: Progress,
) -> dict[str, Any]:
    """Save the encoder that every experiment with a linear head starts from: the base's PCA."""
    model = _start(run.profile, encoder, dataset, device=device, progress=progress)
    _save(model, draft, run, encoder)
    return {
        **parameter_counts(model),
        "trainable_parameters": 0,
        "encoder": encoder.provenance(),
    }


def objective_settings(profile: RunProfile) -> ObjectiveSettings:
    """The profile's objective in the core's terms."""
    training = profile.training
    return ObjectiveSettings(
        contrastive=training.contrastive,
        scale=training.scale,
        regulariser=training.regulariser,
        lambda_isotropy=training.lambda_isotropy,
        lambda_reg=training.lambda_reg,
        **training.sigreg.model_dump(),
    )


def _trainer_settings(profile: RunProfile, *, seed: int, device: str) -> TrainerSettings:
    fields = TrainerSettings.__dataclass_fields__
    values = {key: value for key, value in profile.training if key in fields}
    return TrainerSettings(**values, seed=seed, device=device)


def _start(
    profile: RunProfile, encoder: FoundEncoder, dataset: Path, *, device: str, progress: Progress
) -> SentenceTransformer:
    """The encoder before its first step."""
    config = profile.encoder
    base = load_encoder(encoder, config, device=device)
    if config.head.kind == "none":
        base.similarity_fn_name = profile.training.contrastive
        return base
    if not config.normalize_base:
        base = without_normalize(base)
    sample = None
    if config.head.init == "linear":
        texts = _start_passages(dataset, count=config.head.init_passages)
        sample = encode(
            base, texts, side="document", batch_size=64, label="head start", progress=progress
        ).cpu()
    return build_encoder(
        base,
        output_dim=config.output_dim,
        dropout=config.head.dropout,
        similarity=profile.training.contrastive,
        linear_start=sample,
    )


def _start_passages(dataset: Path, *, count: int) -> list[str]:
    """The same passages for every seed: those whose ids have the smallest digests."""
    corpus = beir.read_corpus(dataset)
    order = sorted(
        range(len(corpus)), key=lambda row: hashlib.sha256(corpus.ids[row].encode()).digest()
    )
    return [corpus.texts[row] for row in sorted(order[:count])]


def _head_modules(model: SentenceTransformer, profile: RunProfile) -> Sequence[int]:
    if profile.encoder.head.kind == "none":
        return ()
    return len(model) - HEAD_MODULES, len(model) - 1


def _training_rows(dataset: Path, negatives: Path) -> Dataset:
    corpus = beir.read_corpus(dataset)
    passages = dict(zip(corpus.ids, corpus.texts, strict=True))
    queries = beir.read_queries(dataset)
    rows = list(read_rows(negatives))
    columns = {
        "query": [queries[row.query] for row in rows],
        "positive": [passages[row.positive] for row in rows],
    }
    drawn = [[*row.hard, *row.random] for row in rows]
    for number, names in enumerate(zip(*drawn, strict=True), 1):
        columns[f"negative_{number}"] = [passages[name] for name in names]
    return Dataset.from_dict(columns)


def _save(model: SentenceTransformer, draft: Path, run: Run, encoder: FoundEncoder) -> None:
    model.save(str(draft / MODEL), create_model_card=False)
    write_model_card(draft / MODEL / "README.md", run=run, encoder=encoder)


class _Clock:
    """Seconds spent training, over all attempts that a kill cut short."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before = float(file.read_text(encoding="utf-8")) if file.exists() else 0.0
        self._started = time.perf_counter()

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def keep(self) -> None:
        self._file.write_text(f"{self.seconds():.3f}", encoding="utf-8")


def _stepper(advance: Any, clock: _Clock) -> Any:  # noqa: ANN401
    done = 0

    def on_step(step: int) -> None:
        nonlocal done
        advance(step - done)
        done = step
        clock.keep()

    return on_step
