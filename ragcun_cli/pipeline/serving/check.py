"""What is found when vectors from elsewhere are held against a model, in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
    SAME,
    Finding,
    Sample,
    TopTen,
    compare_top_ten,
    find_causes,
    largest,
)
from ragcun_cli.pipeline.serving.endpoint import Endpoint
from ragcun_cli.pipeline.serving.forms import LocalModel
from ragcun_cli.pipeline.serving.texts import check_texts
from ragcun_cli.spec.errors import DataError, first_line

MOST_PASSAGES, MOST_QUERIES = 1000, 100
"""Of a data set, that are asked of a server or looked up in a store."""


@dataclass
class Checked:
    """Vectors from elsewhere beside a model's own."""

    model: str
    source: str
    """Address, or file of vectors."""
    dimensions: tuple[int, int]
    """Of the model's and of the other vectors; so are the next two."""
    norms: tuple[float, float]
    """Mean lengths."""
    cosine: tuple[float, float] | None
    """The least and the mean over all texts; None where the dimensions differ."""
    difference: float | None
    """The largest, as a share of the norm; None where the dimensions differ."""
    texts: int
    top_ten: TopTen | None
    """None where queries and passages have other dimensions."""
    top_ten_on: str
    """What was ranked."""
    causes: list[str] = field(default_factory=list)
    """Why they differ, as far as that was found."""
    equal: bool = False
    """Whether they may be used in the place of the model's own."""
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def check_endpoint(
    local: LocalModel, name: str, endpoint: Endpoint, test: JudgedSet | None, progress: Progress
) -> Checked:
    """Hold a server against a model, on fifty texts and on a test set if there is one.

    Raises:
        ServerError: nothing could be compared.
    """

    def ask(texts: Sequence[str], side: Side) -> tuple[list[str], Tensor]:
        prompt = local.prompt(side)
        named = (key for key, text in local.model.prompts.items() if prompt and text == prompt)
        found, taken = endpoint.embed(
            texts,
            prompt=prompt,
            prompt_name=next(named, None),
            label=f"{side} texts by the server",
            progress=progress,
        )
        return [texts[place] for place in taken], found

    texts = check_texts(local.model)
    samples = [Sample(side, *ask(texts, side)) for side in local.sides()]
    owns = [local.embed(local.own, one.texts, one.side) for one in samples]
    ranked, own_ranked, on = samples, owns, f"these {len(samples[-1].texts)} texts"
    if test is not None:
        queries, passages = _some_of(test)
        pairs: list[tuple[Side, list[str]]] = [("query", queries), ("document", passages)]
        ranked = [Sample(side, *ask(sorted(some, key=len), side)) for side, some in pairs]
        own_ranked, on = [local.embed(local.own, s.texts, s.side) for s in ranked], test.name
    found = _compared(local, name, endpoint.url, samples, owns, progress)
    found.top_ten_on = on
    found.top_ten = compare_top_ten(
        (own_ranked[0], own_ranked[-1]),
        (ranked[0].served, ranked[-1].served),
        own_similarity(local.model),
    )
    if refused := sum(len(texts) - len(one.texts) for one in samples):
        found.notes.append(
            f"the server refuses {refused} of {len(texts) * len(samples)} texts, which are not "
            "compared; the model cuts long ones, so have the server or its client do that"
        )
    if endpoint.api == "openai" and any(map(local.prompt, local.sides())):
        found.notes.append(
            "OpenAI's form knows no prompts: the model's own were put before the texts, as each "
            "client has to do"
        )
    return _judged(found)


def check_vectors(
    local: LocalModel, name: str, file: Path, ids: Path, test: JudgedSet, progress: Progress
) -> Checked:
    """Hold vectors of a store against a model, on passages of a data set.

    Raises:
        DataError: the files do not belong together, or hold something else.
    """
    names, vectors = _read_vectors(file, ids, test)
    chosen = smallest(SERVED, names, MOST_PASSAGES)
    places = {name: place for place, name in enumerate(names)}
    texts = test.corpus.texts_by_id(chosen)
    served = torch.from_numpy(vectors[[places[one] for one in chosen]].astype(np.float32))
    if not served.isfinite().all():
        raise DataError(f"{file} holds numbers that are not finite", hint="vectors that are whole")
    own = local.embed(local.own, texts, "document")
    found = _compared(local, name, str(file), [Sample("document", texts, served)], [own], progress)
    found.top_ten_on = f"{test.name}, with the model's own queries"
    if served.shape == own.shape:
        queries = local.embed(local.own, _some_of(test)[0], "query")
        pairs = (queries, own), (queries, served)
        found.top_ten = compare_top_ten(*pairs, own_similarity(local.model))
    if len(names) > len(chosen):
        found.notes.append(f"{len(chosen):,} of {len(names):,} vectors were compared")
    return _judged(found)


def _some_of(test: JudgedSet) -> tuple[list[str], list[str]]:
    """Queries and passages of a set, those with the smallest digests; judged passages first."""
    queries = smallest(SERVED, test.queries, MOST_QUERIES)
    judged = dict.fromkeys(name for query in queries for name in test.qrels[query])
    fill = smallest(SERVED, test.corpus.ids, MOST_PASSAGES)
    names = list(dict.fromkeys([*judged, *fill]))[:MOST_PASSAGES]
    return [test.queries[query] for query in queries], test.corpus.texts_by_id(names)


def _read_vectors(file: Path, ids: Path, test: JudgedSet) -> tuple[list[str], np.ndarray]:
    try:
        names = ids.read_text("utf-8").splitlines()
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        hint = "numpy.save('vectors.npy', vectors), and a text file with an id a line"
        raise DataError(f"vectors cannot be read: {first_line(error)}", hint=hint) from error
    shape = getattr(vectors, "shape", None)
    if shape is None or len(shape) != 2 or vectors.dtype.kind != "f" or 0 in shape:
        kind = getattr(vectors, "dtype", "an archive")
        raise DataError(
            f"{file} holds {kind} of shape {shape}, and no table of floating point numbers",
            hint="a row for each vector; of int8 or binary codes the model cannot be told",
        )
    if len(names) != len(vectors) or len({*names}) != len(names):
        raise DataError(
            f"{ids} has {len(names):,} ids, {len({*names}):,} of them different, and {file} has "
            f"{len(vectors):,} vectors",
            hint="one id a line, in the order of the vectors",
        )
    known = {*test.corpus.ids}
    if unknown := [name for name in names if name not in known]:
        raise DataError(
            f"'{test.name}' has no passage '{unknown[0]}', nor {len(unknown) - 1:,} others of "
            f"the {len(names):,} ids in {ids}",
            hint="--datasets NAME, the set that was put into the store",
        )
    return names, vectors


def _compared(
    local: LocalModel,
    name: str,
    source: str,
    samples: Sequence[Sample],
    owns: Sequence[Tensor],
    progress: Progress,
) -> Checked:
    own, served = torch.cat(list(owns)), torch.cat([one.served for one in samples])
    alike = own.shape == served.shape
    near = torch.cosine_similarity(own.double(), served.double()) if alike else None
    found = [find_causes(local, one, of, progress) for one, of in zip(samples, owns, strict=True)]
    checked = Checked(
        model=name,
        source=source,
        dimensions=(own.shape[1], served.shape[1]),
        norms=(float(own.norm(dim=1).mean()), float(served.norm(dim=1).mean())),
        cosine=None if near is None else (float(near.min()), float(near.mean())),
        difference=largest(own, served) if alike else None,
        texts=len(own),
        top_ten=None,
        top_ten_on="",
        causes=_named(samples, found),
    )
    if not checked.causes and (checked.difference or 0) > SAME:
        checked.notes.append(
            f"vectors differ by up to {checked.difference:.1e} of their norm, as in half precision"
        )
    return checked


def _named(samples: Sequence[Sample], found: Sequence[Finding]) -> list[str]:
    """Causes of both sides once, those of one side with its name."""
    causes: dict[str, list[Side]] = {}
    for sample, one in zip(samples, found, strict=True):
        unknown = () if one.explained or one.causes else (UNKNOWN,)
        for cause in (*one.causes, *unknown):
            causes.setdefault(cause, []).append(sample.side)
    both = len(samples)
    return [
        cause if len(sides) == both else f"{cause} ({sides[0]} texts)"
        for cause, sides in causes.items()
    ]


UNKNOWN = "no form of this model gives such vectors: another model or other weights"


def _judged(found: Checked) -> Checked:
    """With the verdict: half precision is a difference only where it moves the ten best."""
    moved = found.top_ten is not None and not found.top_ten.agree
    if moved and not found.causes:
        found.causes.append("half precision, which moves the ten best passages")
    found.equal = not found.causes
    return found
