"""Figures of results: the primary contrast set by set, and scores against isotropy and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from ragcun_cli.core.rankings.contrasts import Contrast
from ragcun_cli.core.rankings.random_effects import random_effects
from ragcun_cli.pipeline.report.contrasts import POINTS, Compared
from ragcun_cli.pipeline.report.figure import Estimate, Figure, Forest, Series
from ragcun_cli.pipeline.report.rows import MAIN_METRIC, ModelRow, SeedResults, mean_over_sets
from ragcun_cli.spec.measuring_config import FULL_FORM

FEWEST_SETS = 3
"""For a summary in which sets are a sample."""


def forest_figure(primary: Compared | None) -> Forest | None:
    """The primary contrast on each set and over all; None where it was not measured."""
    if primary is None or primary.found is None:
        return None
    lines = [_estimate(name, found) for name, found in primary.by_set.items()]
    over_all = [_estimate("macro mean", primary.found)] if len(lines) > 1 else []
    notes = [
        "A line is the 95 % interval of other queries and other training seeds, a square the mean "
        "over seeds, a dot one seed; the diamond is the mean of the sets that were measured."
    ]
    if len(lines) >= FEWEST_SETS:
        seed_means = np.array([found.by_seed for found in primary.by_set.values()]).T
        variances = np.array([found.variance for found in primary.by_set.values()])
        found = random_effects(POINTS * seed_means, POINTS**2 * variances)
        over_all.append(
            Estimate("sets as a sample", found.mean, *found.interval(), (), found.prediction())
        )
        notes.append(
            "Sets as a sample: the mean of all sets of this kind (Hartung and Knapp), and as a "
            "thin line the interval that holds the true mean of one new set."
        )
    if primary.found.seeds == 1:
        notes.append("One seed: blind to training noise.")
    return Forest(
        key="forest",
        caption=f"The primary contrast set by set: {primary.name}",
        x_label=f"Difference of {primary.planned.scores} in points",
        estimates=tuple(lines),
        summaries=tuple(over_all),
        notes=tuple(notes),
    )


def _estimate(label: str, found: Contrast) -> Estimate:
    low, high = (POINTS * end for end in found.interval())
    seeds = tuple(POINTS * value for value in found.by_seed) if found.seeds > 1 else ()
    return Estimate(label, POINTS * found.mean, low, high, seeds)


def what_if_figure(found: Mapping[str, Any]) -> Forest:
    """The difference that each free change of `what_if.json` makes."""
    lines = {one["name"]: [POINTS * end for end in one["difference"]] for one in found["rungs"]}
    return Forest(
        key="what-if-forest",
        caption="What free changes of the embeddings would do",
        x_label="Difference of nDCG@10 to the untouched model in points",
        estimates=tuple(Estimate(name, *ends) for name, ends in lines.items()),
        notes=("A line is the 95 % interval over queries, uncorrected.",),
        y_label="Change",
    )


def quality_figures(rows: Sequence[ModelRow], averaged: Sequence[str]) -> list[Figure]:
    """nDCG@10 against isotropy, a point a seed, and by the size of the embeddings."""
    if not averaged:
        return []
    figures = []
    points = {row.label: _isotropy_points(row, averaged) for row in rows}
    if series := tuple(Series(label, *xy) for label, xy in points.items() if xy[0]):
        figures.append(
            Figure(
                key="isotropy-ndcg",
                caption="Retrieval quality against the isotropy of the query embeddings",
                x_label="Corrected isotropy score over test queries",
                y_label="nDCG@10 in points",
                series=series,
                kind="points",
                notes=(
                    "A point is one training seed, or a model without training. Models of other "
                    "dimensions compare with each other by their corrected scores alone.",
                ),
            )
        )
    sizes = {row.label: _sizes(row, averaged) for row in rows}
    if series := tuple(Series(label, *xy) for label, xy in sizes.items() if len(xy[0]) > 1):
        figures.append(
            Figure(
                key="ndcg-by-form",
                caption="Retrieval quality by the size of the embeddings",
                x_label="Bytes for each passage",
                y_label="nDCG@10 in points",
                series=series,
                kind="points",
                x_scale="log",
                notes=(
                    "Full vectors in single precision, int8, binary and shortened ones, as the "
                    "table of smaller embeddings has them; means over seeds and data sets.",
                ),
            )
        )
    return figures


Points = tuple[tuple[float, ...], tuple[float, ...]]


def _isotropy_points(row: ModelRow, averaged: Sequence[str]) -> Points:
    found = [
        (seed.isotropy["queries"]["plan_score_corrected"], _points(seed, averaged))
        for seed in row.seeds
        if seed.isotropy is not None and all(name in seed.metrics for name in averaged)
    ]
    return tuple(x for x, _ in found), tuple(y for _, y in found)


def _sizes(row: ModelRow, averaged: Sequence[str]) -> Points:
    if not all(name in row.datasets for name in averaged):
        return (), ()
    first = row.seeds[0].metrics[averaged[0]]
    found = {
        first["settings"]["bytes_per_passage"][form]: fmean(
            _points(seed, averaged, form) for seed in row.seeds
        )
        for form in (FULL_FORM, *first["variants"])
        if first["variants"]
    }
    xs = sorted(found)
    return tuple(map(float, xs)), tuple(found[x] for x in xs)


def _points(seed: SeedResults, sets: Sequence[str], form: str = FULL_FORM) -> float:
    """nDCG@10 of one form over sets that were all evaluated."""
    path = ("metrics",) if form == FULL_FORM else ("variants", form)
    found = mean_over_sets(seed.metrics, sets, (*path, MAIN_METRIC))
    assert found is not None
    return POINTS * found
