"""The choice of negatives for one query, from BM25 candidates and from the whole corpus."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from ragcun_cli.core.draw import ROW_NEGATIVES, generator


@dataclass(frozen=True)
class Negatives:
    """The negatives of one query, each passage once, in the order in which they were drawn."""

    hard: tuple[str, ...]
    """Drawn from the candidates."""
    random: tuple[str, ...]
    """Drawn from the pool."""


def choose_negatives(
    candidates: Sequence[str],
    *,
    excluded: Collection[str],
    first: Sequence[str] = (),
    is_twin: Callable[[str], bool] = lambda passage: False,
    pool: Sequence[str],
    count: int,
    hard_share: float,
    skip_top: int,
    seed: int,
    query_id: str,
) -> Negatives:
    """``count`` negatives, of which ``hard_share`` are hard, drawn without replacement.

    Where ``count * hard_share`` is no whole number, its fraction is the probability of one more
    hard negative: of an odd count at one half, half of the queries get the odd one from the
    candidates. Where candidates are too few, passages of the pool fill their places. The result
    depends on the arguments alone, so neither batches nor processes move it.
    Blind to unjudged positives: skipping the top lowers their number, as BM25 ranks them high.

    Args:
        candidates: passage ids, best first, each once.
        first: passages known to be negatives, which are hard ones before any candidate is.
        is_twin: whether a passage has the text of an excluded one; asked of ``first`` and of the
            pool as they are drawn.
        excluded: passages never to return, such as positives and passages of the same text.
        pool: ids of all passages, each once; candidates that were not drawn may come from it.
        count: how many negatives, at least 1.
        hard_share: in [0, 1].
        skip_top: how many of the best candidates are no hard negatives, counted before exclusions.
        seed: of the run.
        query_id: with the seed it fixes the draws of this query.

    Raises:
        ValueError: an argument out of range, a candidate listed twice, or a pool with too few
            passages left.
    """
    _check(candidates, count=count, hard_share=hard_share, skip_top=skip_top)
    rng = generator(ROW_NEGATIVES, query_id, seed=seed)
    wanted = _whole(count * hard_share, rng=rng)
    taken = set(excluded)
    known = [passage for passage in first if passage not in taken and not is_twin(passage)]
    passed = taken.union(known)
    eligible = [passage for passage in candidates[skip_top:] if passage not in passed]
    hard = tuple(islice(chain(_shuffled(known, rng=rng), _shuffled(eligible, rng=rng)), wanted))
    taken.update(hard)
    fresh = (name for name in _shuffled(pool, rng=rng) if name not in taken and not is_twin(name))
    random = tuple(islice(fresh, count - len(hard)))
    if len(hard) + len(random) < count:
        raise ValueError(
            f"query {query_id!r} needs {count - len(hard)} random negatives, but the pool of "
            f"{len(pool)} passages has {len(random)} that are neither excluded nor chosen"
        )
    return Negatives(hard=hard, random=random)


def _check(candidates: Sequence[str], *, count: int, hard_share: float, skip_top: int) -> None:
    if count < 1:
        raise ValueError(f"count is {count}; at least one negative has to be chosen")
    if not 0 <= hard_share <= 1:
        raise ValueError(f"hard_share is {hard_share}; it has to lie in [0, 1]")
    if skip_top < 0:
        raise ValueError(f"skip_top is {skip_top}; it cannot be negative")
    if len(set(candidates)) < len(candidates):
        raise ValueError("the candidates hold a passage twice")


def _whole(number: float, *, rng: np.random.Generator) -> int:
    """The number rounded down, or up with its fraction as the probability."""
    number = round(number, 9)  # 0.29 * 100 is 28.999999999999996
    return int(number) + int(rng.random() < number % 1)


def _shuffled(items: Sequence[str], *, rng: np.random.Generator) -> Iterator[str]:
    """All items in random order, at a cost in time and memory of those that are asked for.

    Fisher and Yates' shuffle, which notes only the places that it has changed.
    """
    moved: dict[int, int] = {}
    for place in range(len(items)):
        drawn = int(rng.integers(place, len(items)))
        yield items[moved.get(drawn, drawn)]
        moved[drawn] = moved.pop(place, place)
