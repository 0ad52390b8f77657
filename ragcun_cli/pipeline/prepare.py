"""Everything a training needs, read and built: the same on every rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from ragcun_cli.core.model import freeze, on_cached_outputs
from ragcun_cli.core.objective import ObjectiveSettings
from ragcun_cli.core.trainer import TrainerSettings, total_steps
from ragcun_cli.pipeline import ranks
from ragcun_cli.pipeline.data import beir
from ragcun_cli.pipeline.encoders import FoundEncoder
from ragcun_cli.pipeline.evaluate import read_test_set
from ragcun_cli.pipeline.frozen import BaseOutputs
from ragcun_cli.pipeline.mine import read_rows
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.pipeline.selection import (
    SelectionSet,
    digests_of,
    read_selection_set,
    refuse_test_queries,
)
from ragcun_cli.pipeline.start import HEAD_MODULES, head_modules, start_encoder
from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.paths import NEGATIVES
from ragcun_cli.spec.profile import HeadConfig, RunProfile, stated

TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Job:
    """One training, as every rank has to know it."""

    run: Run
    draft: Path
    encoder: FoundEncoder
    dataset: Path
    negatives: Path
    selection: Path | None
    """Data set of the selection queries, where there are any."""
    tested: Mapping[str, Path]
    """The reported data sets that are here."""
    device: str

    @property
    def profile(self) -> RunProfile:
        """The run's."""
        return self.run.profile

    @property
    def seed(self) -> int:
        """The run's."""
        assert self.run.seed is not None
        return self.run.seed


@dataclass
class Prepared:
    """A job with everything read and built."""

    model: SentenceTransformer
    rows: Dataset
    prompts: dict[str, str]
    selection: SelectionSet | None
    fitted: SentenceTransformer
    """The model, or its head on cached outputs of its frozen base."""
    head: Sequence[int]
    """Positions of the head's modules in what is fitted."""


def objective_settings(profile: RunProfile) -> ObjectiveSettings:
    """The profile's objective in the core's terms."""
    training = profile.training
    return ObjectiveSettings(
        contrastive=training.contrastive,
        scale=training.scale,
        symmetric=training.symmetric,
        combination=training.combination,
        regulariser=training.regulariser,
        lambda_isotropy=training.lambda_isotropy,
        lambda_reg=training.lambda_reg,
        **training.sigreg.model_dump(),
    )


def trainer_settings(job: Job) -> TrainerSettings:
    """The profile's optimiser in the core's terms."""
    fields = TrainerSettings.__dataclass_fields__
    values = {key: value for key, value in job.profile.training if key in fields}
    return TrainerSettings(**values, seed=job.seed, device=job.device, run_name=job.run.label)


def prepare(job: Job, progress: Progress) -> Prepared:
    """Build the encoder at its start, and read what it is trained on.

    Raises:
        DataError: selection on test queries, or a malformed data set.
    """
    device = job.device if ranks.is_alone() else ranks.own_device(job.device)
    torch.manual_seed(job.seed)
    model = start_encoder(job.profile, job.encoder, job.dataset, device=device, progress=progress)
    if job.profile.training.freeze_base:
        freeze(list(model)[:-HEAD_MODULES])
    selection = _selection(job)
    rows = _training_rows(job.dataset, job.negatives / NEGATIVES, selection=selection)
    passages = {name: model.prompts.get("document") for name in rows.column_names[1:-1]}
    prompts = {"query": model.prompts.get("query"), **passages}
    return Prepared(
        model=model,
        rows=rows,
        prompts={column: prompt for column, prompt in prompts.items() if prompt},
        selection=selection,
        fitted=model,
        head=head_modules(model, job.profile),
    )


def _selection(job: Job) -> SelectionSet | None:
    config = job.profile.training.selection
    if job.selection is None:
        return None
    found = read_selection_set(
        job.selection,
        config.dataset or job.profile.data.train,
        config,
        seed=job.seed,
        batch_size=TEXTS_AT_ONCE,
    )
    for name, folder in job.tested.items():
        refuse_test_queries(
            digests_of(found.test.queries), read_test_set(name, folder), where=job.run.label
        )
    return found


def _training_rows(dataset: Path, negatives: Path, *, selection: SelectionSet | None) -> Dataset:
    corpus = beir.read_corpus(dataset)
    passages = dict(zip(corpus.ids, corpus.texts, strict=True))
    queries = beir.read_queries(dataset)
    held_out = set() if selection is None else selection.queries_of(queries)
    rows = [row for row in read_rows(negatives) if row.query not in held_out]
    drawn = [[row.positive, *row.hard, *row.random] for row in rows]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(corpus.texts))}
    columns: dict[str, Any] = {"query": [queries[row.query] for row in rows]}
    for column, names in enumerate(zip(*drawn, strict=True)):
        name = f"negative_{column}" if column else "positive"
        columns[name] = [passages[identifier] for identifier in names]
    columns["label"] = [[numbers[passages[name]] for name in names] for names in drawn]
    return Dataset.from_dict(columns)


def use_cached_base(job: Job, ready: Prepared, progress: Progress) -> dict[str, Any] | None:
    """Fit the head on outputs of the frozen base that are computed once, where that is less work.

    The outputs are the same up to the rounding of other batches.
    """
    profile = job.profile
    training = profile.training
    routed = any(isinstance(module, Router) for module in ready.model)
    if not (training.freeze_base and training.cache_frozen_base) or routed:
        return None
    columns = ready.rows.column_names[:-1]
    texts = {column: set(ready.rows[column]) for column in columns}
    distinct = len(set().union(*texts.values()))
    each_step = training.batch_size * training.gradient_accumulation_steps * len(columns)
    steps = total_steps(len(ready.rows), trainer_settings(job))
    if distinct > steps * each_step:
        progress.note(
            f"{job.run.label}: {steps:,} steps encode {steps * each_step:,} texts, fewer than the "
            f"{distinct:,} there are; the frozen base's outputs are not kept"
        )
        return None
    base = SentenceTransformer(
        modules=list(ready.model)[:-HEAD_MODULES], device=str(ready.model.device)
    )
    values = {
        "weights": job.encoder.digests(),
        "encoder": stated(profile.encoder.model_copy(update={"head": HeadConfig()})),
        "precision": training.precision,
    }
    folder = job.run.workspace.base_outputs(digest(values))
    outputs = BaseOutputs(folder, width=base.get_embedding_dimension())
    seconds, before = 0.0, len(outputs)
    for prompt in dict.fromkeys(ready.prompts.get(column, "") for column in columns):
        chosen = [c for c in columns if ready.prompts.get(c, "") == prompt]
        seconds += outputs.encode(
            base,
            (text for column in chosen for text in ready.rows[column]),
            prompt=prompt,
            batch_size=TEXTS_AT_ONCE,
            precision=training.precision,
            progress=progress,
        )
    break_even = -(-distinct // each_step)
    progress.note(
        f"{job.run.label}: {len(outputs) - before:,} texts through the frozen base in "
        f"{seconds:.1f} s, kept on disk; {distinct:,} texts are what {break_even:,} steps would "
        f"encode, and {steps:,} follow"
    )
    ready.fitted = on_cached_outputs(
        list(ready.model)[-HEAD_MODULES:], outputs.look_up, device=str(ready.model.device)
    )
    ready.head = (1, HEAD_MODULES)
    return {
        "texts": distinct,
        "encoded": len(outputs) - before,
        "seconds": round(seconds, 1),
        "break_even_steps": break_even,
    }
