"""Vectors from elsewhere against those of the model that is here: how far, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ragcun_cli.core.search.ranking import Similarity
from ragcun_cli.pipeline.encoders.encode import Side
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.serving.forms import HEADLESS, LocalModel, ServedForm

FP32_NOISE = 1e-4
"""Of the norm: what fp32 makes in another order of sums and batches stays below."""

EXPLAINED = 1e-3
"""Of the norm: a form of the model that comes so near to all vectors is what is served."""

_MOST_NOISE = 0.05
"""Of the norm, that half precision is ever held to explain."""

_SHORT = 16
"""Texts, the shortest, on which everything but the length is found out."""

_TIED = 0.01
"""Of the spread of a query's scores: passages nearer to the tenth than this are as good."""


NO_FORM = "no form of this model gives such vectors: another model or other weights"


@dataclass(frozen=True)
class Sample:
    """Texts of one side, and their vectors."""

    side: Side
    texts: Sequence[str]
    served: Tensor
    """``(n, e)`` fp32, finite: those from elsewhere."""
    own: Tensor
    """``(n, d)`` fp32: the model's."""


@dataclass(frozen=True)
class _Try:
    form: ServedForm
    causes: tuple[str, ...]
    worst: float


def find_causes(local: LocalModel, sample: Sample, progress: Progress) -> tuple[str, ...]:
    """What explains the vectors of a sample, as few causes as can be; none of the model's own.

    Everything but the length at which texts are cut is found on the shortest texts, which are
    cheap to encode in all forms of the model; the length on all. Half precision is no cause.

    Raises:
        EncoderError: the model fails on the texts.
    """
    own, served, side = sample.own, sample.served, sample.side
    if served.shape == own.shape and largest(own, served) <= EXPLAINED:
        return ()
    progress.note(f"the vectors of {side} texts differ: looking for the cause")
    tokens = local.tokens(sample.texts, side)
    rows = sorted(range(len(tokens)), key=tokens.__getitem__)
    some, lengths = rows[:_SHORT], local.lengths(tokens[rows[-1]])
    texts = [sample.texts[row] for row in some]
    half = local.embed(local.own, texts, side, precision="bf16")
    noise = min(3 * largest(own[some], half), _MOST_NOISE)
    cuts = [None, *(length for length in lengths if length < tokens[some[-1]])]
    near = _best(_tries(local, sample, some, [*local.forms(side)], cuts, progress), noise)
    if near is None:
        return (NO_FORM,)
    whole = _best(_tries(local, sample, rows, [near.form], [None, *lengths], progress), noise)
    if whole is None:
        return (*near.causes, "longer texts differ for a reason that was not found")
    if HEADLESS in whole.causes and _is_unit(served) and not _is_unit(own):
        return (*(one for one in whole.causes if one != "normalised"), "normalised")
    return whole.causes


def _best(tries: Sequence[_Try], noise: float) -> _Try | None:
    """The fewest causes among those that explain; failing that, among those within noise."""
    least = min((one.worst for one in tries), default=noise)
    limit = EXPLAINED if least <= EXPLAINED else min(2 * least, noise)
    near = [one for one in tries if one.worst <= limit]
    return min(near, key=lambda one: (len(one.causes), one.worst), default=None)


def _tries(
    local: LocalModel,
    sample: Sample,
    rows: Sequence[int],
    forms: Sequence[ServedForm],
    lengths: Sequence[int | None],
    progress: Progress,
) -> list[_Try]:
    """Some texts in forms of the model, until one explains them that has no more causes."""
    texts, served = [sample.texts[row] for row in rows], sample.served[rows]
    width, found = served.shape[1], list[_Try]()
    pairs = sorted(product(forms, lengths), key=lambda pair: len(pair[0].causes) + bool(pair[1]))
    with progress.bar("forms of the model", total=len(pairs), unit="forms") as advance:
        for form, length in pairs:
            cut = f"texts cut at {length:,} tokens instead of {local.length:,}" if length else ""
            causes = (*form.causes, cut) if cut else form.causes
            if any(one.worst <= EXPLAINED and len(one.causes) <= len(causes) for one in found):
                break
            vectors = local.embed(form, texts, sample.side, length=length)
            advance(1)
            if vectors.shape[1] < width:
                continue
            if vectors.shape[1] > width:
                causes = (*causes, f"cut to the first {width} dimensions")
            shapes = {causes: vectors[:, :width]}
            if not _is_unit(shapes[causes]):
                shapes[(*causes, "normalised")] = normalize(shapes[causes])
            for said, rows_of in shapes.items():
                found.append(_Try(form, said, largest(rows_of, served)))
                if (worst := _out_of_order(rows_of, sample.served)) is not None:
                    found.append(_Try(form, (*said, "order mixed up"), worst))
    return found


def _out_of_order(vectors: Tensor, served: Tensor) -> float | None:
    """The largest difference from the nearest vectors, if each is near to another one."""
    distances, nearest = torch.cdist(vectors.double(), served.double()).min(1)
    if len(nearest.unique()) < 0.9 * len(nearest):  # equal texts may stand in the sample
        return None
    return float((distances / _norms(vectors.double())).max())


def _norms(vectors: Tensor) -> Tensor:
    norms: Tensor = vectors.norm(dim=1)
    return norms.clamp(min=torch.finfo(torch.float32).tiny)


def _is_unit(vectors: Tensor) -> bool:
    return bool(((vectors.norm(dim=1) - 1).abs() <= EXPLAINED).all())


def largest(own: Tensor, other: Tensor) -> float:
    """Difference of two ``(n, d)`` tables of vectors: the largest of a row, by its own norm."""
    return float(((other - own).norm(dim=1) / _norms(own)).max())


def compare_top_ten(
    queries: Sample, passages: Sample, similarity: Similarity
) -> dict[str, float | bool]:
    """How far the best ten passages of each query are the same, by own vectors and by others.

    ``shared`` is the mean share in [0, 1] of the model's ten that is among the others; they
    ``agree`` where every passage that is not shared is as good as tied with the tenth.
    """
    scores = _scores(queries.own, passages.own, similarity)
    others = _scores(queries.served, passages.served, similarity)
    count = min(10, scores.shape[1])
    ours, tops = scores.topk(count).indices, others.topk(count).indices
    shared = (ours[:, :, None] == tops[:, None]).any(1).double().mean()
    tenth = scores.gather(1, ours[:, -1:])
    spread = scores.amax(1, keepdim=True) - scores.amin(1, keepdim=True)
    agree = (scores.gather(1, tops) >= tenth - _TIED * spread).all()
    counted = {"queries": len(scores), "passages": scores.shape[1]}
    return {"shared": float(shared), "agree": bool(agree)} | counted


def _scores(queries: Tensor, passages: Tensor, similarity: Similarity) -> Tensor:
    queries, passages = queries.double(), passages.double()
    if similarity == "euclidean":
        return -torch.cdist(queries, passages)
    if similarity == "cosine":
        queries, passages = normalize(queries), normalize(passages)
    return queries @ passages.T
