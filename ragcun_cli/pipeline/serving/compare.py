"""Vectors from elsewhere against those of the model that is here: how far, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ragcun_cli.core.search.ranking import Similarity
from ragcun_cli.pipeline.encoders.encode import Side
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.serving.forms import HEADLESS, Form, LocalModel

SAME = 1e-4
"""Of the norm: what fp32 makes in another order of sums and batches stays below."""

EXPLAINED = 1e-3
"""Of the norm: a form of the model that comes so near to all vectors is what is served."""

_MOST_NOISE = 0.05
"""Of the norm, that half precision is ever held to explain."""

_SHORT = 16
"""Texts, the shortest, on which everything but the length is found out."""

_TIED = 0.01
"""Of the spread of a query's scores: passages nearer to the tenth than this are as good."""


@dataclass(frozen=True)
class Sample:
    """Texts of one side, and the vectors that they have elsewhere."""

    side: Side
    texts: Sequence[str]
    served: Tensor
    """``(n, e)`` fp32, finite."""


@dataclass(frozen=True)
class Finding:
    """Why vectors of one side are what they are."""

    causes: tuple[str, ...]
    """In words; none where they are the model's own."""
    difference: float
    """The largest from the form that explains them, as a share of the norm."""
    explained: bool = True
    """Whether such a form was found."""


@dataclass(frozen=True)
class _Try:
    form: Form
    causes: tuple[str, ...]
    worst: float


def find_causes(local: LocalModel, sample: Sample, own: Tensor, progress: Progress) -> Finding:
    """What explains the vectors of a sample with the fewest causes.

    Everything but the length at which texts are cut is found on the shortest texts, which are
    cheap to encode in all forms of the model; the length on all.

    Args:
        local: the model.
        sample: of one side.
        own: ``(n, d)`` vectors that the model itself gives the texts.
        progress: is told.

    Raises:
        EncoderError: the model fails on the texts.
    """
    if sample.served.shape == own.shape and (worst := largest(own, sample.served)) <= EXPLAINED:
        return Finding((), worst)
    progress.note(f"the vectors of {sample.side} texts differ: looking for the cause")
    tokens = local.tokens(sample.texts, sample.side)
    rows = sorted(range(len(tokens)), key=tokens.__getitem__)
    some, longest = rows[:_SHORT], tokens[rows[-1]]
    half = local.embed(
        local.own, [sample.texts[row] for row in some], sample.side, precision="bf16"
    )
    noise = min(3 * largest(own[some], half), _MOST_NOISE)
    cuts = [length for length in local.lengths(longest) if length < tokens[some[-1]]]
    forms = [*local.forms(sample.side)]
    near = _best(_tries(local, sample, some, forms, [None, *cuts]), noise)
    if near is None:
        return Finding((), float("nan"), explained=False)
    whole = _best(_tries(local, sample, rows, [near.form], [None]), noise)
    if whole is None or whole.worst > max(EXPLAINED, 3 * near.worst):
        lengths = [None, *local.lengths(longest)]
        whole = _best(_tries(local, sample, rows, [near.form], lengths), noise)
    if whole is None:
        rest = (*near.causes, "longer texts differ for a reason that was not found")
        return Finding(rest, near.worst, explained=False)
    causes = whole.causes
    if HEADLESS in causes and _is_unit(sample.served) and not _is_unit(own):
        causes = (*(one for one in causes if one != "normalised"), "normalised")
    return Finding(causes, whole.worst)


def _best(tries: Iterable[_Try], noise: float) -> _Try | None:
    """The fewest causes among those that explain; failing that, among those within noise."""
    found = list(tries)
    least = min((one.worst for one in found), default=noise)
    limit = EXPLAINED if least <= EXPLAINED else min(2 * least, noise)
    near = [one for one in found if one.worst <= limit]
    return min(near, key=lambda one: (len(one.causes), one.worst), default=None)


def _tries(
    local: LocalModel,
    sample: Sample,
    rows: Sequence[int],
    forms: Sequence[Form],
    lengths: Sequence[int | None],
) -> Iterator[_Try]:
    texts, width = [sample.texts[row] for row in rows], sample.served.shape[1]
    for length, form in product(lengths, forms):
        found = local.embed(form, texts, sample.side, length=length)
        if found.shape[1] < width:
            continue
        causes = form.causes
        if found.shape[1] > width:
            causes += (f"cut to the first {width} dimensions",)
        if length is not None:
            causes += (f"texts cut at {length:,} tokens instead of {local.length:,}",)
        found = found[:, :width]
        forms_of_it = [(causes, found)]
        if not _is_unit(found):
            forms_of_it.append(((*causes, "normalised"), normalize(found)))
        for said, vectors in forms_of_it:
            yield _Try(form, said, largest(vectors, sample.served[rows]))
            if (worst := _out_of_order(vectors, sample.served)) is not None:
                yield _Try(form, (*said, "order mixed up"), worst)


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


@dataclass(frozen=True)
class TopTen:
    """The best ten passages of each query by the model and by vectors from elsewhere."""

    shared: float
    """Of the model's ten, the mean share that is among the others; in [0, 1]."""
    agree: bool
    """Whether every passage that is not shared is as good as tied with the tenth."""
    queries: int
    passages: int


def compare_top_ten(
    own: tuple[Tensor, Tensor], served: tuple[Tensor, Tensor], similarity: Similarity
) -> TopTen:
    """How far rankings agree; each pair has ``(q, d)`` queries and ``(p, d)`` passages."""
    scores = _scores(*own, similarity)
    count = min(10, scores.shape[1])
    ours, tops = scores.topk(count).indices, _scores(*served, similarity).topk(count).indices
    shared = (ours[:, :, None] == tops[:, None]).any(1).double().mean()
    tenth = scores.gather(1, ours[:, -1:])
    spread = scores.amax(1, keepdim=True) - scores.amin(1, keepdim=True)
    agree = (scores.gather(1, tops) >= tenth - _TIED * spread).all()
    return TopTen(float(shared), bool(agree), *scores.shape)


def _scores(queries: Tensor, passages: Tensor, similarity: Similarity) -> Tensor:
    queries, passages = queries.double(), passages.double()
    if similarity == "euclidean":
        return -torch.cdist(queries, passages)
    if similarity == "cosine":
        queries, passages = normalize(queries), normalize(passages)
    return queries @ passages.T
