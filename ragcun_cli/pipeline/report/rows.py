"""What is known of the models of a report, row by row."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.table import Cell, WithInterval, over_seeds
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import StageRecord

MAIN_METRIC = "ndcg@10"

Measures = Mapping[str, Any]
"""Of isotropy, on one side: name -> value."""


@dataclass(frozen=True)
class SeedResults:
    """What is known of one run; what has no current stage is absent."""

    run: Run
    training: StageRecord | None
    evaluations: Mapping[str, StageRecord]
    """Data set -> the record of its evaluation."""

    scores: Mapping[str, ScoreColumns]
    """Data set -> scores query by query, of the columns that the report needs."""

    isotropy: Mapping[str, Any] | None

    metrics: Mapping[str, Mapping[str, Any]]
    """Data set -> what the evaluation's `metrics.json` holds: hubs, calibration, smaller forms."""

    samples: Mapping[str, str]
    """Data set that is a sample -> the one it is of."""

    proxies: tuple[str, ...] = ()
    """What to know of scores on data sets whose queries were made for them."""

    @property
    def measured(self) -> frozenset[str]:
        """The data sets that it was evaluated on, and `isotropy` if that was measured."""
        return frozenset(self.metrics) | ({"isotropy"} if self.isotropy is not None else set())


@dataclass(frozen=True)
class ModelRow:
    """One model of the tables, over its seeds."""

    name: str
    """As plans call it."""
    seeds: tuple[SeedResults, ...]
    """Those with the most results: a damaged one leaves the others standing."""
    left_out: tuple[SeedResults, ...] = ()
    """The others."""
    title: str = ""
    """What people call it: told from the runs of other plans, or chosen for a paper; else the
    name."""

    @property
    def shown(self) -> str:
        """What people call it."""
        return self.title or self.name

    @property
    def label(self) -> str:
        """The same, with what of its seeds there is where some have no results."""
        few = f" ({len(self.seeds)} of {len(self.every)} seeds)"
        return self.shown + (few if self.left_out else "")

    @property
    def every(self) -> list[SeedResults]:
        """All seeds, with results or without."""
        return sorted((*self.seeds, *self.left_out), key=lambda one: one.run.seed or 0)

    @property
    def run(self) -> Run:
        """The first of its runs."""
        return self.seeds[0].run

    @property
    def datasets(self) -> list[str]:
        """Those that every seed was evaluated on."""
        first = self.seeds[0].metrics
        return [name for name in first if all(name in seed.metrics for seed in self.seeds)]

    def means(self, dataset: str) -> list[float] | None:
        """The mean score of each seed, over parts; None unless every seed was evaluated."""
        if dataset not in self.datasets:
            return None
        return [seed.metrics[dataset]["metrics"][MAIN_METRIC] for seed in self.seeds]

    def isotropy(self, side: str) -> list[Measures] | None:
        """The measures of each seed; None unless all were measured."""
        found = [seed.isotropy[side] for seed in self.seeds if seed.isotropy is not None]
        return found if len(found) == len(self.seeds) else None

    def isotropy_cell(self, key: str, side: str = "queries") -> Cell:
        """One measure: over seeds where there are several, else with its interval if it has one."""
        measured = self.isotropy(side)
        if measured is None:
            return None if self.run.embeds else "none"
        cell = over_seeds([each[key] for each in measured])
        if key == "plan_score" and isinstance(cell, float) and measured[0]["intervals"] is not None:
            return WithInterval(cell, *measured[0]["intervals"][key])
        return cell


def shared_datasets(rows: Sequence[ModelRow]) -> list[str]:
    """Those that every seed of every row was evaluated on."""
    first = rows[0].datasets if rows else []
    return [name for name in first if all(name in row.datasets for row in rows)]


def samples_of(rows: Sequence[ModelRow]) -> dict[str, str]:
    """Data set that is a sample -> the one it is of."""
    return {name: of for row in rows for seed in row.seeds for name, of in seed.samples.items()}


def mean_over_sets(
    metrics: Mapping[str, Mapping[str, Any]], sets: Sequence[str], path: Sequence[str]
) -> float | None:
    """The mean of a number that the evaluation of each set has; None where one lacks it."""
    values = []
    for name in sets:
        found: Any = metrics[name]
        for key in path:
            found = found.get(key) if found is not None else None
        if found is None:
            return None
        values.append(float(found))
    return statistics.fmean(values)


def calibrations(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The calibration of each part of a data set."""
    found: Mapping[str, Any] = content["calibration"]
    return list(found.values()) if "parts" in content else [found]
