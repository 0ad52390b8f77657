"""Page-level measures of KILT (Petroni et al., NAACL 2021), of one query."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def r_precision(evidence: Sequence[AbstractSet[str]], pages: Sequence[str]) -> float:
    """Share of an evidence set's R pages among the first R of the ranking, the best set's: [0, 1].

    Args:
        evidence: sets of pages, each of which would do, none empty.
        pages: best first, each once.
    """
    return max(len(one & {*pages[: len(one)]}) / len(one) for one in evidence)


def page_recall(evidence: Sequence[AbstractSet[str]], pages: Sequence[str], *, k: int) -> float:
    """Share of the different evidence sets that are complete among the first k places, in [0, 1].

    An evidence set takes one place, that of the last of its pages; those that end with the same
    page stand in their order.

    Args:
        evidence: as for `r_precision`.
        pages: likewise.
        k: places.
    """
    open_sets = [set(one) for one in dict.fromkeys(map(frozenset, evidence))]
    places: list[int | None] = []
    for page in pages:
        holding = [number for number, left in enumerate(open_sets) if page in left]
        for number in holding:
            if number in places:
                places.remove(number)
            open_sets[number].discard(page)
            places.append(number)
        places += [] if holding else [None]
    return sum(n is not None and not open_sets[n] for n in places[:k]) / len(open_sets)
