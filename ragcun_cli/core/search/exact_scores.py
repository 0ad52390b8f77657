"""Exact scores of queries and passages, and what float32 may say of them beforehand."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Similarity = Literal["euclidean", "cosine", "dot"]

LONGEST_SQUARED = 1e36  # above it 2 q.d can overflow float32
SHORTEST_SQUARED = 1e-200  # below it a length loses digits; float32 has nothing under 1e-90
UNDERFLOW = 2.0**-120  # bounds what flushing to zero loses in one dimension of a score


def exact_scores(queries: Tensor, passages: Tensor, *, similarity: Similarity) -> Tensor:
    """``(c,)`` scores of ``(c, d)`` pairs of float64 rows, 0.0 where a sum comes out as -0.0."""
    if similarity == "euclidean":
        return 0.0 - lengths(queries - passages)
    products = row_sums(queries * passages) + 0.0
    if similarity == "cosine":
        products /= lengths(queries) * lengths(passages)
    return products


def lengths(rows: Tensor) -> Tensor:
    """``(c,)``, rounded as IEEE 754 wants it."""
    squared = row_sums(rows * rows)
    # On CPUs torch leaves square roots to MKL, whose last digit is wrong now and then.
    return torch.from_numpy(np.sqrt(squared.numpy())) if squared.is_cpu else squared.sqrt()


def row_sums(values: Tensor) -> Tensor:
    """``(c,)`` sums in an order fixed by d alone: equal rows sum alike in any batch and device."""
    while (width := values.shape[1]) > 1:
        half = width // 2
        sums = values[:, :half] + values[:, half : 2 * half]
        if width % 2:
            sums[:, 0] += values[:, -1]
        values = sums
    return values[:, 0]


def check_shape(vectors: Tensor, *, kind: str, dimensions: int) -> None:
    """Refuse what is no matrix of so many columns.

    Raises:
        ValueError: it is not.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dimensions or not vectors.is_floating_point():
        raise ValueError(
            f"{kind} embeddings of shape {tuple(vectors.shape)} and type {vectors.dtype} are "
            f"no floating point matrix of {dimensions} columns"
        )


def refuse(unusable: list[int], *, kind: str) -> None:
    """Refuse vectors that no score can be trusted of, if there are any.

    Raises:
        ValueError: there are, with the first of their rows.
    """
    if unusable:
        what = "not finite, longer than 1e18, or (for cosine) of length 0"
        raise ValueError(
            f"{len(unusable)} {kind} embeddings are {what}; first rows: {unusable[:5]}"
        )


def widened(vectors: Tensor, *, kind: str, first_row: int, similarity: Similarity) -> Tensor:
    """The rows in float64, checked.

    Raises:
        ValueError: as ``refuse``.
    """
    rows = vectors.to(torch.float64)
    squared = row_sums(rows * rows)
    shortest = SHORTEST_SQUARED if similarity == "cosine" else -1.0
    usable = (squared > shortest) & (squared <= LONGEST_SQUARED)
    refuse(((~usable).nonzero().flatten() + first_row).tolist(), kind=kind)
    return rows


def points(rows: Tensor, *, similarity: Similarity) -> Tensor:
    """The float64 rows, of unit length for cosine."""
    return rows / lengths(rows)[:, None] if similarity == "cosine" else rows


class Proposal:
    """Left factors of a float32 product that proposes, and how it compares with exact scores.

    The product is ``2 q.d - |d|^2`` of vectors less the queries' mean, which keeps distances and
    loses a large common offset. Dot products are of queries of unit length, which leaves their
    order as it is. Its error is at most ``d u |q| |d|`` (Higham 2002, section 3.1, any order of
    summation); what is added for it is a few times that.

    Args:
        rows: ``(q, d)`` checked queries in float64.
        similarity: what "best" means.
    """

    def __init__(self, rows: Tensor, *, similarity: Similarity) -> None:
        of_queries = points(rows, similarity=similarity)
        self.similarity = similarity
        self.roundoff = (rows.shape[1] + 16) * 2.0**-23  # d u, twice over
        self.centre = of_queries.mean(0)
        if similarity == "dot":
            scale = lengths(of_queries)
            scale = torch.where(scale > 0, scale, 1.0)
            factors = of_queries / scale[:, None]
            self.shift, self.slope = -row_sums(of_queries * self.centre) / scale, 1 / scale
            self.slack = torch.zeros_like(scale)
        else:
            factors = 2 * (of_queries - self.centre)
            self.shift = row_sums(factors * factors) / 4
            self.slope = torch.ones_like(self.shift)
            self.slack = 2 * self.roundoff * self.shift
        self.factors = factors.float()

    def of_passages(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Right factors ``(d, n)``, bias ``(n,)`` and slack ``(n,)`` of checked float64 passages.

        The exact value lies between estimate and estimate + 2 slack, give or take the query's own
        slack.
        """
        of_passages = points(rows, similarity=self.similarity)
        centred = of_passages - self.centre
        squared = row_sums(centred * centred)
        double = (float(np.log2(rows.shape[1])) + 16) * 2.0**-52
        if self.similarity == "dot":
            bias = torch.zeros_like(squared)
            slack = double * (lengths(of_passages) + self.centre.norm())
            slack += self.roundoff * squared.sqrt()
        else:
            bias = -squared
            slack = 2 * self.roundoff * squared
            slack += 8 * double * (self.similarity == "cosine")
        slack += rows.shape[1] * UNDERFLOW
        return centred.float().T, (bias - slack).float(), slack.float()

    def in_estimates(self, scores: Tensor, *, block: slice) -> Tensor:
        """What ``(b, k)`` exact scores of a block of queries are on the scale of the product."""
        measure = {"euclidean": -(scores**2), "cosine": 2 * scores - 2, "dot": scores}
        return self.shift[block, None] + self.slope[block, None] * measure[self.similarity]


def without_spare_copies(rows: Tensor, sums: Tensor, *, copies: int) -> Tensor:
    """Indices of the rows that have fewer than ``copies`` identical rows before them.

    The others cannot be hits; without them thousands of identical passages cost no more than k.

    Args:
        rows: ``(n, d)``.
        sums: ``(n,)`` equal for identical rows.
        copies: of each to keep.
    """
    keep = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    found = sums.cpu().numpy()
    ordered = np.sort(found)
    if (ordered[copies:] == ordered[:-copies]).any():
        _, groups, sizes = np.unique(found, return_inverse=True, return_counts=True)
        for group in np.flatnonzero(sizes > copies):
            members = torch.from_numpy(np.flatnonzero(groups == group)).to(rows.device)
            same = (rows[members] == rows[members[0]]).all(1)
            keep[members[same][copies:]] = False
    return keep.nonzero().flatten()


def weighted_sums(rows: Tensor) -> Tensor:
    """``(n,)`` sums of float64 rows that tell most rows apart."""
    weights = torch.linspace(1, 2, rows.shape[1], dtype=torch.float64).sin().to(rows.device)
    return row_sums(rows * weights)
