"""Which mined passages become negatives: a pure function of the candidates and the seed."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Negatives:
    """The negatives of one query."""

    hard: tuple[str, ...]
    random: tuple[str, ...]


def choose_negatives(
    candidates: Sequence[str],
    *,
    excluded: Collection[str],
    pool: Sequence[str],
    count: int,
    hard_share: float,
    skip_top: int,
    seed: int,
    query_id: str,
) -> Negatives:
    """Draw hard negatives from the candidates and random ones from the pool, without repeats.

    The draw depends on (seed, query id) alone: not on batches, order or processes. A count that
    hard_share does not divide gives the odd one to the hard half for a matching share of the
    queries. Too few candidates are made up for by random passages.

    Args:
        candidates: passages found for the query, best first.
        excluded: judged positives and their like; never returned.
        pool: all passages.
        count: negatives wanted.
        hard_share: in [0, 1].
        skip_top: best candidates to pass over, after exclusion.
        seed: of the run.
        query_id: of the query.

    Raises:
        ValueError: the pool holds too few passages.
    """
    excluded = set(excluded)
    generator = _generator(seed, query_id)
    wanted = count * hard_share
    hard_count = int(wanted) + int(generator.random() < wanted - int(wanted))
    open_candidates = [name for name in candidates if name not in excluded][skip_top:]
    picks = generator.permutation(len(open_candidates))[:hard_count]
    hard = tuple(open_candidates[pick] for pick in picks)
    random = _draw_others(
        pool, excluded | set(hard), count=count - len(hard), generator=generator
    )
    return Negatives(hard, random)


def _generator(seed: int, query_id: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{query_id}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def _draw_others(
    pool: Sequence[str], taken: set[str], *, count: int, generator: np.random.Generator
) -> tuple[str, ...]:
    """Rejection sampling: the pool may hold millions, and ``taken`` holds few."""
    if len(pool) - len(taken) < 2 * count:
        return _draw_from_few(pool, taken, count=count, generator=generator)
    drawn: list[str] = []
    while len(drawn) < count:
        name = pool[int(generator.integers(len(pool)))]
        if name not in taken:
            taken.add(name)
            drawn.append(name)
    return tuple(drawn)


def _draw_from_few(
    pool: Sequence[str], taken: set[str], *, count: int, generator: np.random.Generator
) -> tuple[str, ...]:
    left = [name for name in pool if name not in taken]
    if len(left) < count:
        raise ValueError(
            f"{count} random negatives are wanted and the corpus has {len(left)} other passages"
        )
    return tuple(left[pick] for pick in generator.permutation(len(left))[:count])
