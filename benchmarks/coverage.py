"""How often the interval of a contrast holds the truth, by simulation.

    python benchmarks/coverage.py [--repetitions 20000]

A difference is a true mean, plus a normal part for each training seed (with 15 sets one more, as
large, for each seed and set), for each query, and for each pair of both. Each line is the lowest
and the highest coverage of nominal 95 % intervals over four deviations of seeds (0, 0.25, 0.5 and 1
points) and three pairs of deviations of queries and pairs ((15, 10), (10, 15), (3, 15) points).
Means and mean squares are drawn, which is all that the interval depends on; three cells are drawn
query by query, too. A last table is of the random-effects summary, where the true means of sets
deviate by 0, 0.25, 1 and 4 points, without an effect of seeds and with one of 1 point on all sets;
of it a tenth of the repetitions. Three minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from itertools import product

import numpy as np
from scipy.special import ndtri, stdtrit

from ragcun_cli.core.rankings.contrasts import contrast, spread
from ragcun_cli.core.rankings.random_effects import random_effects

BEIR = (50, 323, 3452, 7405, 648, 1406, 49, 13145, 10000, 400, 1000, 6666, 1535, 300, 6980)
"""Judged test queries of trec-covid, nfcorpus, nq, hotpotqa, fiqa, arguana, webis-touche2020,
cqadupstack, quora, dbpedia-entity, scidocs, fever, climate-fever, scifact and msmarco (dev)."""

SETS = {"50": (50,), "300": (300,), "3,000": (3000,), "13,000": (13000,), "15 sets": BEIR}
SEEDS = (2, 3, 5, 10)
OF_SEEDS = (0.0, 0.0025, 0.005, 0.01)
OF_SETS = (0.0, 0.0025, 0.01, 0.04)
"""Deviations of the true means of sets, where sets are a sample."""
OF_QUERIES = ((0.15, 0.10), (0.10, 0.15), (0.03, 0.15))


def drawn(rng, sets, seeds, of_seed, of_query, of_pair, repetitions):
    """Whether the two intervals hold 0, and their widths, for each repetition."""
    counts, sizes = np.array(sets, float), (repetitions, seeds, len(sets))
    weights = np.full(len(sets), 1 / len(sets))
    queries = rng.normal(size=(repetitions, 1, len(sets))) * of_query / np.sqrt(counts)
    pairs = rng.normal(size=sizes) * of_pair / np.sqrt(counts)
    own = rng.normal(size=sizes) * (of_seed if len(sets) > 1 else 0)
    means = rng.normal(size=(repetitions, seeds, 1)) * of_seed + own + queries + pairs
    between = (of_query**2 + of_pair**2 / seeds) * chi(rng, counts - 1, repetitions)
    residual = of_pair**2 * chi(rng, (counts - 1) * max(seeds - 1, 1), repetitions)
    by_seed = means @ weights
    variance, df, _ = spread(by_seed, between, residual, counts=counts, weights=weights)
    half = stdtrit(df, 0.975) * np.sqrt(variance)
    blind = ndtri(0.975) * np.sqrt((weights**2 * between / counts).sum(-1))
    off = np.abs(by_seed.mean(-1))
    return off <= half, off <= blind, half, blind


def chi(rng, freedom, repetitions):
    """Mean squares of normal draws, as multiples of their expectation."""
    return rng.chisquare(freedom, size=(repetitions, len(freedom))) / freedom


def by_query(rng, sets, seeds, of_seed, of_query, of_pair, repetitions):
    """Coverage where every query is drawn, through `contrast` itself."""
    held = 0
    names = [f"{number}" for number in range(len(sets))]
    for _ in range(repetitions):
        seed = rng.normal(size=(seeds, 1)) * of_seed
        scores = {
            name: seed
            + rng.normal(size=(seeds, 1)) * (of_seed if len(sets) > 1 else 0)
            + rng.normal(size=(1, count)) * of_query
            + rng.normal(size=(seeds, count)) * of_pair
            for name, count in zip(names, sets, strict=True)
        }
        low, high = contrast(scores, dict.fromkeys(names, 1.0)).interval()
        held += low <= 0 <= high
    return held / repetitions


def of_sets(rng, sets, seeds, of_set, of_seed, repetitions):
    """How often the random-effects interval and the prediction hold what they are of.

    Sets are drawn: their true means deviate by `of_set`. Seeds move all sets together.
    """
    counts = np.array(sets, float)
    held, foreseen = 0, 0
    for _ in range(repetitions):
        true = rng.normal(0, of_set, len(counts))
        queries = rng.normal(size=len(counts)) * 0.15 / np.sqrt(counts)
        pairs = rng.normal(size=(seeds, len(counts))) * 0.10 / np.sqrt(counts)
        means = true + rng.normal(0, of_seed, (seeds, 1)) + queries + pairs
        between = (0.15**2 + 0.10**2 / seeds) / counts
        shared = means.var(0, ddof=1) / seeds - 0.10**2 / (seeds * counts)
        found = random_effects(means, between + np.maximum(shared, 0))
        low, high = found.interval()
        held += low <= 0 <= high
        low, high = found.prediction()
        foreseen += low <= rng.normal(0, of_set) <= high
    return held / repetitions, foreseen / repetitions


def sets_as_a_sample(rng, repetitions):
    """A line for each number of sets and of seeds: the least and the most over the cells."""
    print("\n| sets | seeds | interval | prediction | interval, seeds move all sets |")
    print("|---|---|---|---|---|")
    for count, seeds in product((3, 5, 10, 15), (2, 3, 5)):
        still, moved = (
            [of_sets(rng, BEIR[:count], seeds, of_set, of_seed, repetitions) for of_set in OF_SETS]
            for of_seed in (0.0, 0.01)
        )
        columns = [[one for one, _ in still], [one for _, one in still], [one for one, _ in moved]]
        spans = [f"{min(found):.1%} to {max(found):.1%}" for found in columns]
        print(f"| {count} | {seeds} | {' | '.join(spans)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20_000)
    repetitions = parser.parse_args().repetitions
    started = time.perf_counter()
    print("| seeds | queries | interval | queries alone | width, no seed deviation |")
    print("|---|---|---|---|---|")
    for seeds, (name, sets) in product(SEEDS, SETS.items()):
        cells = list(product(OF_SEEDS, OF_QUERIES))
        held, blind, wider = [], [], []
        for number, (of_seed, (of_query, of_pair)) in enumerate(cells):
            rng = np.random.default_rng([seeds, len(sets), sets[0], number])
            found = drawn(rng, sets, seeds, of_seed, of_query, of_pair, repetitions)
            held.append(found[0].mean())
            blind.append(found[1].mean())
            if of_seed == 0:
                wider.append(np.median(found[2]) / np.median(found[3]))
        print(
            f"| {seeds} | {name} | {min(held):.1%} to {max(held):.1%} | {min(blind):.1%} to "
            f"{max(blind):.1%} | {min(wider):.2f} to {max(wider):.2f} |",
            flush=True,
        )
    print("\nDrawn query by query, and by means and mean squares:")
    few = max(100, repetitions // 4)
    for seeds, sets, of_seed in ((3, (300,), 0.005), (5, (3000,), 0.01), (3, BEIR[:4], 0.005)):
        how = (sets, seeds, of_seed, 0.10, 0.15)
        single = by_query(np.random.default_rng(7), *how, few)
        fast = drawn(np.random.default_rng(8), *how, repetitions)[0].mean()
        kind = "one set" if len(sets) == 1 else f"{len(sets)} sets"
        print(f"{seeds} seeds, {kind}, deviation {of_seed}: {single:.1%}, {fast:.1%}")
    sets_as_a_sample(np.random.default_rng(9), repetitions // 10)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
