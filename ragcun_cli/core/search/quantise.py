"""Embeddings as a smaller index would keep them: 8 bits or 1 bit a dimension, or fewer dimensions.

Each variant turns what the encoder serves into what exact search ranks, so that the loss of quality
is of the smaller embeddings alone and not of an approximate index.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ragcun_cli.core.search.ranking import Similarity

Kind = Literal["int8", "binary", "binary-rescored", "truncate"]

_LEVELS = 256


@dataclass(frozen=True)
class Codec:
    """A variant, fitted to one encoder."""

    queries: Callable[[Tensor], Tensor]
    """``(q, d)`` embeddings -> ``(q, e)`` float32 vectors to rank for."""
    passages: Callable[[Tensor], Tensor]
    """``(n, d)`` embeddings -> ``(n, e)`` float32 vectors to rank."""
    similarity: Similarity
    """What ranks them."""
    bytes_per_passage: int
    """Of the vector in an index, without ids; a float32 one has 4 a dimension."""


@dataclass(frozen=True)
class Variant:
    """A way of making embeddings smaller.

    ``int8``: each dimension of a passage is one of 256 levels of equal distance between the least
    and the greatest value of the sample (affine; values outside are clipped), as in
    sentence-transformers' ``quantize_embeddings``, whose codes these are; ranked are the middles of
    what a code stands for, at most half a level from the value (the library's own rescoring takes
    the lower end). Queries stay float32, as in faiss's scalar quantiser and in the
    rescoring of sentence-transformers: there is one of them at a time, and nothing to save.
    ``binary``: 1 where a dimension is above the sample's mean, else -1, on both sides. Their dot
    product is d less twice the Hamming distance, so it ranks as Hamming distance does, whatever the
    encoder's similarity. Many passages tie; `ExactTopK` gives ties to the lower row.
    ``binary-rescored``: passages as for ``binary``, queries float32 less the sample's mean, by dot
    product: what rescoring binary hits with the float query comes to when all hits are rescored.
    ``truncate-N``: the first N dimensions (Matryoshka, arXiv:2205.13147), of unit length again
    where the similarity is cosine; else as they are.
    """

    kind: Kind
    dimensions: int | None = None
    """N of ``truncate-N``; None of the others."""

    @property
    def name(self) -> str:
        """What `parse_variant` reads."""
        return self.kind if self.dimensions is None else f"{self.kind}-{self.dimensions}"

    def fit(self, sample: Tensor, *, similarity: Similarity) -> Codec:
        """The variant for the encoder that a sample of passages is from.

        Args:
            sample: ``(n, d)`` passage embeddings: n >= 2 where their values matter, and some
                hundreds for ranges and means that hold for the rest.
            similarity: the encoder's own.

        Raises:
            ValueError: the sample is no matrix, too small, or not finite; or ``truncate-N`` with N
                above d.
        """
        if sample.ndim != 2 or not sample.is_floating_point():
            raise ValueError(f"a sample of shape {tuple(sample.shape)} is no matrix of embeddings")
        width = sample.shape[1]
        if self.dimensions is not None:
            return _truncating(self.dimensions, width=width, similarity=similarity)
        if len(sample) < 2 or not sample.isfinite().all():
            raise ValueError(f"'{self.name}' needs at least 2 passages, all of finite values")
        sample = sample.detach().float()
        if self.kind == "int8":
            return _scalar(sample, similarity=similarity)
        centre = sample.double().mean(0).float()
        return Codec(
            queries=lambda q: _signs(q, centre) if self.kind == "binary" else _less(q, centre),
            passages=lambda p: _signs(p, centre),
            similarity="dot",
            bytes_per_passage=-(-width // 8),
        )


def parse_variant(name: str) -> Variant:
    """The variant of that name: int8, binary, binary-rescored or truncate-N.

    Raises:
        ValueError: there is none.
    """
    plain: tuple[Kind, ...] = ("int8", "binary", "binary-rescored")
    for kind in plain:
        if name == kind:
            return Variant(kind)
    if match := re.fullmatch(r"truncate-([1-9][0-9]*)", name):
        return Variant("truncate", int(match[1]))
    if name.startswith("truncate"):
        raise ValueError(f"'{name}' has no number of dimensions of 1 or more; such as truncate-128")
    raise ValueError(
        f"'{name}' is no variant of embeddings; there are int8, binary, binary-rescored and "
        "truncate-N, such as truncate-128"
    )


def _truncating(dimensions: int, *, width: int, similarity: Similarity) -> Codec:
    if dimensions > width:
        raise ValueError(
            f"truncate-{dimensions} of embeddings that have {width} dimensions; take at most "
            f"truncate-{width}"
        )

    def cut(vectors: Tensor) -> Tensor:
        kept = vectors[:, :dimensions].float()
        return torch.nn.functional.normalize(kept) if similarity == "cosine" else kept

    return Codec(cut, cut, similarity=similarity, bytes_per_passage=4 * dimensions)


def _scalar(sample: Tensor, *, similarity: Similarity) -> Codec:
    low = sample.amin(0)
    step = (sample.amax(0) - low) / (_LEVELS - 1)
    divisor = torch.where(step == 0, 1.0, step)

    def middles(passages: Tensor) -> Tensor:
        first, size, by = (values.to(passages.device) for values in (low, step, divisor))
        codes = ((passages.float() - first) / by).floor().clamp(0, _LEVELS - 1)
        return first + (codes + 0.5) * size

    return Codec(
        queries=lambda queries: queries.float(),
        passages=middles,
        similarity=similarity,
        bytes_per_passage=sample.shape[1],
    )


def _less(vectors: Tensor, centre: Tensor) -> Tensor:
    return vectors.float() - centre.to(vectors.device)


def _signs(vectors: Tensor, centre: Tensor) -> Tensor:
    return torch.where(_less(vectors, centre) > 0, 1.0, -1.0)
