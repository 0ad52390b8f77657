"""Signs, seen while training, that an encoder has collapsed or that its training diverges."""

from __future__ import annotations

import math
from dataclasses import dataclass

PATIENCE = 3
"""Lines of the log in a row that must show a sign."""

LOWEST_RANK = 2.0
"""Effective rank under which all texts lie along about one direction."""

DIVERGED = 10.0
"""Times the contrastive term of uninformed logits, above which a training has diverged."""

_CLOSE = 0.05  # to the collapse value, as a share of it
_TOLD_APART = 5  # times the null's value the collapse value has to be, or a batch is too small
_DECISIVE = 0.05  # standard errors above this, times 3, tell nothing of an accuracy


@dataclass(frozen=True)
class Signs:
    """What one line of the log says of the state of an encoder."""

    contrastive: float
    """The contrastive term: log ``passages`` where logits are uninformed."""
    accuracy: float
    """In-batch accuracy over ``queries`` queries, each among ``passages`` passages."""
    queries: int
    passages: int
    effective_rank: float
    texts: int
    """That the effective rank is of."""
    statistic: float | None = None
    """SIGReg, where it has a weight."""
    collapsed_statistic: float = math.inf
    """What it is when all embeddings are 0."""
    null_statistic: float = 0.0
    """What it is for N(0, I)."""
    was_clear: bool = True
    """Whether it was ever away from its collapse value: a random head starts there, and grows."""


def signs_of_divergence(signs: Signs) -> list[str]:
    """What says that each step makes things worse, in words."""
    most = DIVERGED * math.log(signs.passages)
    if signs.contrastive <= most:
        return []
    return [
        f"the contrastive term is {signs.contrastive:.3g}, above {most:.1f}, which is "
        f"{DIVERGED:g} times that of uninformed logits among {signs.passages} passages"
    ]


def signs_of_collapse(signs: Signs) -> list[str]:
    """What looks like collapse, in words; nothing where too little was seen to tell."""
    found = []
    chance = 1 / signs.passages
    doubt = 3 * math.sqrt(chance * (1 - chance) / signs.queries)
    if doubt <= _DECISIVE and signs.accuracy <= chance + doubt:
        found.append(
            f"in-batch accuracy {signs.accuracy:.3f} is at chance, {chance:.3f} among "
            f"{signs.passages} passages"
        )
    if signs.texts > 2 * LOWEST_RANK and signs.effective_rank < LOWEST_RANK:
        found.append(f"the effective rank of {signs.texts} texts is {signs.effective_rank:.2f}")
    if signs.statistic is not None and _is_at_collapse(signs.statistic, signs):
        found.append(
            f"SIGReg is {signs.statistic:.4g}, and {signs.collapsed_statistic:.4g} when all "
            "embeddings are one point"
        )
    return found


def _is_at_collapse(statistic: float, signs: Signs) -> bool:
    if signs.collapsed_statistic < _TOLD_APART * signs.null_statistic:
        return False
    return signs.was_clear and is_near(statistic, signs.collapsed_statistic)


def is_near(statistic: float, collapsed: float) -> bool:
    """Whether SIGReg is about what it is when all embeddings are one point."""
    return abs(statistic - collapsed) <= _CLOSE * collapsed
