"""What is found when vectors from elsewhere are held against a model, in full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ragcun_cli.core.draw import SERVED, smallest
from ragcun_cli.pipeline.encoders.encode import Side
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.dense import own_similarity
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.serving.compare import (
    FP32_NOISE,
    Sample,
    compare_top_ten,
    find_causes,
    largest,
)
from ragcun_cli.pipeline.serving.endpoint import Endpoint
from ragcun_cli.pipeline.serving.forms import LocalModel
from ragcun_cli.pipeline.serving.texts import check_texts
from ragcun_cli.spec.addresses import shown
from ragcun_cli.spec.errors import DataError, first_line

MOST_PASSAGES, MOST_QUERIES = 1000, 100
"""Of a data set, that are asked of a server or looked up in a store."""


def check_endpoint(
    local: LocalModel, endpoint: Endpoint, test: JudgedSet | None, progress: Progress
) -> dict[str, Any]:
    """Hold a server against a model, on fifty texts and on a test set if there is one.

    Raises:
        ServerError: nothing could be compared.
    """

    def ask(side: Side, texts: Sequence[str]) -> Sample:
        prompt = local.prompt(side)
        named = (key for key, text in local.model.prompts.items() if prompt and text == prompt)
        served, taken = endpoint.embed(
            texts, prompt=prompt, prompt_name=next(named, None), progress=progress
        )
        texts = [texts[place] for place in taken]
        return Sample(side, texts, served, local.embed(local.own, texts, side))

    texts = check_texts(local.model)
    samples = [ask(side, texts) for side in local.sides()]
    notes = []
    if refused := len(texts) * len(samples) - sum(len(one.texts) for one in samples):
        notes.append(
            f"the server refuses {refused} of {len(texts) * len(samples)} texts, which are not "
            "compared; the model cuts long ones, so have the server or its client do that"
        )
    if endpoint.api == "openai" and any(map(local.prompt, local.sides())):
        notes.append("OpenAI's form knows no prompts: each client has to put them before a text")
    queries, passages = samples[0], samples[-1]
    if test is not None:
        some = _some_of(test)
        queries = ask("query", sorted(some[0], key=len))
        passages = ask("document", sorted(some[1], key=len))
    on = "these texts" if test is None else test.name
    return _found(local, shown(endpoint.url), samples, (queries, passages), on, notes, progress)


def check_vectors(
    local: LocalModel, file: Path, ids: Path, test: JudgedSet, progress: Progress
) -> dict[str, Any]:
    """Hold vectors of a store against a model, on passages of a data set and its queries.

    Raises:
        DataError: the files do not belong together, or hold something else.
    """
    names, vectors = _read_vectors(file, ids, test)
    chosen = smallest(SERVED, names, MOST_PASSAGES)
    places = {name: place for place, name in enumerate(names)}
    served = torch.from_numpy(vectors[[places[one] for one in chosen]].astype(np.float32))
    if not served.isfinite().all():
        raise DataError(f"{file} holds numbers that are not finite", hint="vectors that are whole")
    texts, asked = test.corpus.texts_by_id(chosen), _some_of(test)[0]
    passages = Sample("document", texts, served, local.embed(local.own, texts, "document"))
    vectors_of = local.embed(local.own, asked, "query")
    queries = Sample("query", asked, vectors_of, vectors_of)
    notes = [f"{len(chosen):,} of {len(names):,} vectors were compared"]
    return _found(local, str(file), [passages], (queries, passages), test.name, notes, progress)


def _some_of(test: JudgedSet) -> tuple[list[str], list[str]]:
    """Queries and passages of a set, those with the smallest digests; judged passages first."""
    queries = smallest(SERVED, test.queries, MOST_QUERIES)
    judged = (name for query in queries for name in test.qrels[query])
    fill = smallest(SERVED, test.corpus.ids, MOST_PASSAGES)
    names = list(dict.fromkeys([*judged, *fill]))[:MOST_PASSAGES]
    return [test.queries[query] for query in queries], test.corpus.texts_by_id(names)


def _read_vectors(file: Path, ids: Path, test: JudgedSet) -> tuple[list[str], np.ndarray]:
    hint = "numpy.save of a row of floats for each vector, and a text file with an id a line"
    try:
        names = ids.read_text("utf-8").splitlines()
        vectors = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"vectors cannot be read: {first_line(error)}", hint=hint) from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or 0 in vectors.shape:
        what = f"{vectors.dtype} of shape {vectors.shape}"
        raise DataError(f"{file} holds {what}, and no table of floats", hint=hint)
    if not len({*names}) == len(names) == len(vectors):
        raise DataError(
            f"{ids} has {len(names):,} ids, {len({*names}):,} of them different, and {file} has "
            f"{len(vectors):,} vectors",
            hint=hint,
        )
    if unknown := sorted({*names} - {*test.corpus.ids}):
        raise DataError(
            f"'{test.name}' lacks {len(unknown):,} of the {len(names):,} ids, as '{unknown[0]}'",
            hint="--datasets NAME, the set that was put into the store",
        )
    return names, vectors


def _found(
    local: LocalModel,
    source: str,
    samples: Sequence[Sample],
    ranked: tuple[Sample, Sample],
    ranked_on: str,
    notes: list[str],
    progress: Progress,
) -> dict[str, Any]:
    """All that is measured, the causes, and what is to be said beside them."""
    own = torch.cat([one.own for one in samples])
    served = torch.cat([one.served for one in samples])
    alike = own.shape == served.shape
    cosines = torch.cosine_similarity(own.double(), served.double()) if alike else None
    difference = largest(own, served) if alike else None
    ten, causes = None, _named(local, samples, progress)
    if len({one.served.shape[1] for one in ranked}) == 1:
        ten = compare_top_ten(*ranked, own_similarity(local.model)) | {"on": ranked_on}
    if not causes and difference is not None and difference > FP32_NOISE:
        if ten is not None and not ten["agree"]:
            causes = ["half precision, which moves the ten best passages"]
        notes.append(f"vectors differ by up to {difference:.1e} of the norm: half precision")
    return {
        "source": source,
        "texts": len(own),
        "equal": not causes,
        "causes": causes,
        "dimensions": {"model": own.shape[1], "served": served.shape[1]},
        "mean_norm": {"model": _mean_norm(own), "served": _mean_norm(served)},
        "cosine": None
        if cosines is None
        else {"least": float(cosines.min()), "mean": float(cosines.mean())},
        "largest_difference_of_the_norm": difference,
        "best_ten": ten,
        "notes": notes,
    }


def _mean_norm(vectors: Tensor) -> float:
    return float(vectors.norm(dim=1).mean())


def _named(local: LocalModel, samples: Sequence[Sample], progress: Progress) -> list[str]:
    """Causes of both sides once, those of one side with its name."""
    found = {one.side: find_causes(local, one, progress) for one in samples}
    named = dict.fromkeys(cause for causes in found.values() for cause in causes)
    sides = {cause: [side for side, causes in found.items() if cause in causes] for cause in named}
    return [
        cause if len(sides[cause]) == len(found) else f"{cause} ({sides[cause][0]} texts)"
        for cause in named
    ]
