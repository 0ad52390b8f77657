"""The terms of the training objective but SIGReg: pure functions of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def euclidean_logits(queries: Tensor, passages: Tensor, *, scale: float) -> Tensor:
    """-||q - d||^2 / T with T = 2 d / scale, for embeddings on the scale of N(0, I_d).

    There the squared distance of an unrelated pair is 2 d and that of a pair with cosine c is
    2 d (1 - c), so these logits are ``scale * cosine`` less a constant, as in InfoNCE on cosines.
    Computed in fp32 around the common mean: a shared offset would cancel digits.

    Args:
        queries: ``(b, d)``.
        passages: ``(m, d)``.
        scale: inverse temperature, > 0.

    Returns:
        ``(b, m)``, at most 0.
    """
    centre = passages.detach().float().mean(dim=0)
    q, p = queries.float() - centre, passages.float() - centre
    squared = (q * q).sum(1)[:, None] - 2 * q @ p.T + (p * p).sum(1)
    return squared.clamp(min=0) * (-scale / (2 * queries.shape[1]))


def cosine_logits(queries: Tensor, passages: Tensor, *, scale: float) -> Tensor:
    """``(b, m)`` cosines times ``scale``, in fp32."""
    return scale * normalize(queries.float(), dim=1) @ normalize(passages.float(), dim=1).T


def dot_logits(queries: Tensor, passages: Tensor, *, scale: float) -> Tensor:
    """``(b, m)`` products q.d / T with T = d / scale, in fp32.

    On the scale of N(0, I_d), where ``||q|| ||d||`` is about d, they are ``scale * cosine``.
    """
    return queries.float() @ passages.float().T * (scale / queries.shape[1])


def info_nce(logits: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Cross-entropy of each query picking its own passage; ``(b, m)`` logits, m >= b.

    Query i's positive is column i. ``log(m)`` for uninformative logits (van den Oord et al. 2018,
    arXiv:1807.03748).

    Args:
        logits: ``(b, m)``.
        excluded: ``(b, m)``, True where a passage is no negative of a query; never at (i, i).
    """
    if excluded is not None:
        logits = logits.masked_fill(excluded, -torch.inf)
    return cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def symmetric_info_nce(logits: Tensor, excluded: Tensor | None = None) -> Tensor:
    """The mean of `info_nce` and of each positive picking its own query among those of the batch.

    ``(b, m)`` as in `info_nce`; mined negatives, which have no query, count in the first half.
    """
    back = logits[:, : len(logits)].T
    back_excluded = None if excluded is None else excluded[:, : len(logits)].T
    return (info_nce(logits, excluded) + info_nce(back, back_excluded)) / 2


def judged_elsewhere(queries: Tensor, passages: Tensor, judged: Tensor) -> Tensor:
    """``(b, m)``: True where a passage is judged relevant to a query and is not its column i.

    Args:
        queries: ``(b,)`` numbers of 63 random bits, equal where texts are.
        passages: ``(m,)`` such numbers with m >= b; the first b are the positives.
        judged: ``(n,)`` pairs that are judged relevant, the exclusive or of both numbers, sorted.
    """
    pairs = queries[:, None] ^ passages
    found = judged[torch.searchsorted(judged, pairs).clamp(max=len(judged) - 1)] == pairs
    found.diagonal().fill_(False)
    return found


def own_passage_first(logits: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Share of the queries whose own passage, column i, scores highest: in-batch accuracy."""
    if excluded is not None:
        logits = logits.masked_fill(excluded, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (logits.argmax(1) == own).float().mean()


def spread_out(embeddings: Tensor) -> Tensor:
    """The global orthogonal regulariser GOR (Zhang et al. 2017, arXiv:1708.06320): two moments.

    ``M1^2 + max(0, M2 - 1/d)``, M1 and M2 the means of the cosine and of its square over all pairs
    of different rows; of directions uniform on the sphere they are 0 and 1/d. The paper's pairs are
    descriptors of different things, an anchor's and another's; ours, as sentence-transformers'
    `GlobalOrthogonalRegularizationLoss` has it, those of one side. Blind to length.
    ``(n, d)`` with n >= 2 to ``()``.
    """
    cosines = cosine_logits(embeddings, embeddings, scale=1.0)
    others = cosines - cosines.diagonal().diag()
    pairs = len(embeddings) * (len(embeddings) - 1)
    mean, second = others.sum() / pairs, others.square().sum() / pairs
    return mean.square() + (second - 1 / embeddings.shape[1]).clamp(min=0)


def moment_gap(embeddings: Tensor) -> Tensor:
    """Distance of the first two moments from those of N(0, I): mean, variance and covariance.

    ``mean_j m_j^2 + mean_j (s_j - 1)^2 + sum_{j != k} C_jk^2 / d``, m, s and C the mean, standard
    deviation and covariance (ddof 1) of the columns. The variance and covariance terms of VICReg
    (Bardes et al. 2022, arXiv:2105.04906) with a target on both sides of 1 in the place of a hinge,
    and the mean beside them. 1 when all rows are 0. ``(n, d)`` with n >= 2 to ``()``.
    """
    rows = embeddings.float()
    mean = rows.mean(0)
    centred = rows - mean
    covariance = centred.T @ centred / (len(rows) - 1)
    variances = covariance.diagonal()
    off_diagonal = covariance.square().sum() - variances.square().sum()
    deviations = (variances + 1e-12).sqrt()  # a finite gradient where a column is constant
    return mean.square().mean() + ((deviations - 1) ** 2).mean() + off_diagonal / rows.shape[1]


def unit_deviation(embeddings: Tensor) -> Tensor:
    """``(s - 1)^2``, s the standard deviation (ddof 0) of all entries; 0 for N(0, I)."""
    return (embeddings.float().std(correction=0) - 1) ** 2
