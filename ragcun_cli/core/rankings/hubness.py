"""Hubness: do a few passages stand in the results of very many queries?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True)
class Hubness:
    """Of ``N_k``, in how many queries' k best each passage of a corpus stands.

    Under whatever distance the rankings were made with. Compare at equal numbers of queries and
    passages alone, and with what chance gives. Blind to whether the hubs are relevant.
    """

    k: int
    queries: int
    passages: int
    skewness: float | None
    """``E (N_k - mean)^3 / sd^3`` over all passages (Radovanović et al. 2010, JMLR 11): about 0
    without hubs, large with them; None where all passages occur equally often."""
    skewness_of_chance: float | None
    """If each query had k passages at random: that of a binomial."""
    anti_hub_share: float
    """Share of passages in no list, in [0, 1]; at least ``1 - k queries / passages``."""
    anti_hub_share_of_chance: float
    most: int
    """The largest ``N_k``, at most the number of queries."""
    mean: float
    """``N_k`` in the mean: k queries / passages, or less where lists are short."""


def hubness(ranked: Iterable[Sequence[Hashable]], *, passages: int, k: int = 10) -> Hubness:
    """How unevenly the passages of a corpus share the k first places of rankings.

    Args:
        ranked: of each query ids or rows of passages, best first.
        passages: in the corpus, those that stand in no list among them.
        k: places that count.

    Raises:
        ValueError: no queries, no passages, k below 1, or more passages in the lists than there
            are.
    """
    if passages < 1 or k < 1:
        raise ValueError(f"{passages} passages and k = {k} have no hubs; both have to be above 0")
    occurrences: Counter[Hashable] = Counter()
    queries = 0
    for found in ranked:
        occurrences.update(islice(found, k))
        queries += 1
    if not queries:
        raise ValueError("there are no rankings to look for hubs in")
    if len(occurrences) > passages:
        raise ValueError(f"the rankings hold {len(occurrences)} passages of {passages}")
    counts = Counter(occurrences.values()) | Counter({0: passages - len(occurrences)})
    mean = sum(n * often for n, often in counts.items()) / passages
    second, third = (
        math.fsum(often * (n - mean) ** power for n, often in counts.items()) / passages
        for power in (2, 3)
    )
    chance = mean / queries
    spread = queries * chance * (1 - chance)
    return Hubness(
        k=k,
        queries=queries,
        passages=passages,
        skewness=third / second**1.5 if second > 0 else None,
        skewness_of_chance=(1 - 2 * chance) / math.sqrt(spread) if spread > 0 else None,
        anti_hub_share=1 - len(occurrences) / passages,
        anti_hub_share_of_chance=(1 - chance) ** queries,
        most=max(occurrences.values(), default=0),
        mean=mean,
    )
