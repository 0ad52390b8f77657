"""Everything a training needs, read and built: the same on every rank."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ragcun_cli.core.model import HEAD_MODULES, freeze
from ragcun_cli.core.training.average import WithStart
from ragcun_cli.core.training.fit import total_steps
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import BATCH_ROWS, Corpus
from ragcun_cli.pipeline.encoders.base_outputs import WantedTexts, on_wanted_outputs
from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, TEXTS_AT_ONCE, kept_base_of
from ragcun_cli.pipeline.machine import processes
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.mining.queries import judged_queries
from ragcun_cli.pipeline.search.held_out import (
    SelectionSet,
    digests_of,
    read_held_out,
    refuse_test_queries,
)
from ragcun_cli.pipeline.search.judged import read_judged_sets
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.training.examples import ID_COLUMNS, judged_pairs, write_examples
from ragcun_cli.pipeline.training.job import Job, trainer_settings
from ragcun_cli.pipeline.training.start_encoder import head_modules, start_encoder
from ragcun_cli.spec.paths import NEGATIVES

TRAINING_ROWS = "examples.arrow"


@dataclass
class Prepared:
    """A job with everything read and built."""

    model: SentenceTransformer
    rows: Dataset
    judged: Tensor
    """Pairs of a query and a passage that is relevant to it."""
    prompts: dict[str, str]
    selection: SelectionSet | None
    fitted: SentenceTransformer
    """The model, or its head on cached outputs of its frozen base."""
    head: Sequence[int]
    """Positions of the head's modules in what is fitted."""
    start: WithStart
    """Its weights before the first step, which may have a share in what is kept."""


def prepare(job: Job, progress: Progress) -> Prepared:
    """Build the encoder at its start, and read what it is trained on.

    Raises:
        DataError: selection on test queries, or a malformed data set.
        ProfileError: there are too few rows for a batch or for the warm-up.
    """
    sets = job.profile.selection_sets
    selection = read_selection(job.run, job.selection, job.tested, seed=job.seed) if sets else None
    file, judged = job.draft / TRAINING_ROWS, job.draft / "judged.npy"
    if processes.rank() == 0:  # which writes before it calls the others
        queries, corpus = beir.read_queries(job.dataset), Corpus.open(job.dataset)
        write_examples(
            corpus,
            queries,
            job.negatives / NEGATIVES,
            file,
            without=set() if selection is None else selection.queries_of(queries),
        )
        qrels = judged_queries(job.dataset, corpus, "train").qrels
        np.save(judged, judged_pairs(corpus, queries, qrels))
    rows = Dataset.from_file(str(file)).remove_columns(ID_COLUMNS)
    job.profile.training.check_rows(len(rows), label=job.run.label)
    device = job.device if processes.is_alone() else processes.own_device(job.device)
    torch.manual_seed(job.seed)
    how: Any = {"device": device, "outputs": job.outputs, "progress": progress}
    model = start_encoder(job.profile, job.encoder, job.dataset, **how)
    if job.profile.training.freeze_base:
        freeze(list(model)[:-HEAD_MODULES])
    passages = {name: model.prompts.get("document") for name in rows.column_names[1:-1]}
    prompts = {"query": model.prompts.get("query"), **passages}
    return Prepared(
        model=model,
        rows=rows,
        judged=torch.from_numpy(np.load(judged)),
        prompts={column: prompt for column, prompt in prompts.items() if prompt},
        selection=selection,
        fitted=model,
        head=head_modules(model, job.profile),
        start=WithStart(model, job.profile.training.average_with_base),
    )


def read_selection(
    run: Run, folders: Mapping[str, Path], tested: Mapping[str, Path], *, seed: int
) -> SelectionSet:
    """The queries that a run's encoder is chosen on.

    Args:
        run: whose profile names them.
        folders: of their data sets, by name.
        tested: the reported data sets that are here.
        seed: of the sample.

    Raises:
        DataError: one is a test query.
    """
    config = run.profile.training.selection
    tests = [
        read_held_out(folders[name], name, split, config, seed=seed)
        for name, split in run.profile.selection_sets
    ]
    digests = [digest for test in tests for digest in digests_of(test.queries)]
    for name, folder in tested.items():
        for test in read_judged_sets(name, folder):
            refuse_test_queries(digests, test, where=run.label)
    return SelectionSet(tests, BATCH_TEXTS, config.variants)


def use_cached_base(job: Job, ready: Prepared, progress: Progress) -> dict[str, Any] | None:
    """Fit the head on outputs of the frozen base that are computed once, where that is less work.

    The outputs are the same up to the rounding of other batches.

    Returns:
        How many texts there are, and what they cost; None where the base is run at each step.
    """
    training, base = job.profile.training, kept_base_of(ready.model)
    if base is None:
        return None
    columns = ready.rows.column_names[:-1]
    each_step = training.batch_size * training.gradient_accumulation_steps * len(columns)
    steps = total_steps(len(ready.rows), trainer_settings(job))
    wanted = _wanted(job, ready)
    distinct = sum(len(one.rows) for one in wanted)
    if distinct > steps * each_step:
        progress.note(
            f"{job.run.label}: {steps:,} steps encode {steps * each_step:,} texts, fewer than the "
            f"{distinct:,} there are; the frozen base's outputs are not kept"
        )
        return None
    started, before = time.perf_counter(), base.encoded
    whole = job.profile.data.train, wanted[1].total  # encoded anyway where selection ranks it
    ranked = [] if ready.selection is None else ready.selection.tests
    anyway = whole in [(test.name, len(test.corpus)) for test in ranked]
    worth = math.inf if anyway else steps * each_step / distinct
    ready.fitted = on_wanted_outputs(
        ready.model,
        [replace(one, most=min(one.most, worth)) for one in wanted],
        job.draft / "base_outputs.f32",
        batch_size=BATCH_TEXTS,
        precision=training.precision,
        label="frozen base",
        progress=progress,
    )
    ready.head = (1, HEAD_MODULES)
    seconds, encoded = time.perf_counter() - started, base.encoded - before
    break_even = -(-distinct // each_step)
    progress.note(
        f"{job.run.label}: {encoded:,} texts through the frozen base in {seconds:.1f} s, kept on "
        f"disk; {distinct:,} texts are what {break_even:,} steps would encode, and {steps:,} follow"
    )
    return {
        "texts": distinct,
        "encoded": encoded,
        "seconds": round(seconds, 1),
        "break_even_steps": break_even,
    }


def _wanted(job: Job, ready: Prepared) -> list[WantedTexts]:
    """The queries of the rows in their order, and their passages, each once."""
    corpus, examples = Corpus.open(job.dataset), Dataset.from_file(str(job.draft / TRAINING_ROWS))
    rows = [
        np.unique(corpus.rows_of(name for names in some["passage_ids"] for name in names))
        for some in examples.select_columns("passage_ids").iter(BATCH_ROWS)
    ]
    block, queries = job.profile.evaluation.block_passages, dict.fromkeys(ready.rows["query"])
    asked, before = (ready.prompts.get(column, "") for column in ("query", "positive"))
    return [
        WantedTexts.all_of(list(queries), prompt=asked, block=TEXTS_AT_ONCE),
        WantedTexts.passages(corpus, np.concatenate(rows), prompt=before, block=block),
    ]
