"""Figures of minings: how hard the negatives are, and how far up the positives stand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.gather import read_measured
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import MINING_SUMMARY

_KINDS = {"positive": "positives", "hard": "hard negatives", "random": "random negatives"}
_SCORES = {"bm25": "BM25 score", "dense": "Score of the dense model"}


@dataclass(frozen=True)
class Mining:
    """The numbers of one mining, and what it is called."""

    label: str
    seed: int | None
    candidates: str
    """`bm25` or `dense`."""
    summary: Mapping[str, Any]
    """As in its `summary.json`."""


def gather_minings(runs: Sequence[Run], road: Road, runner: Runner) -> list[Mining]:
    """The minings that are current, each in one seed."""
    first: dict[Path, Run] = {}
    for run in runs:
        if run.reference is None and runner.is_current(task := road.minings.task(run)):
            first.setdefault(task.folder.parent, run)
    minings: list[Mining] = []
    for run in first.values():
        text = read_measured(road.minings.task(run), MINING_SUMMARY, runner)
        if text is None:
            continue
        summary = json.loads(text)
        train = run.profile.data.train
        label = train if len(first) == 1 else f"{train}, for {run.name}"
        same = sum(label == mining.label.partition(" (")[0] for mining in minings)
        label += f" ({same + 1})" if same else ""
        minings.append(Mining(label, run.seed, run.profile.mining.candidates, summary))
    return minings


def mining_figures(minings: Sequence[Mining]) -> list[Figure]:
    """A figure of scores for each mining, and one of ranks for all."""
    figures = []
    for number, mining in enumerate(minings, 1):
        suffix = "" if number == 1 else f"-{number}"
        if mining.summary["score_histogram"] is not None:
            figures.append(_scores(mining, key=f"mining-scores{suffix}"))
    ranks = [series for mining in minings for series in _ranks(mining)]
    if not ranks:
        return figures
    found = Figure(
        key="mining-ranks",
        caption="Each line shows how far up the positives stand among the hits",
        x_label="Rank",
        y_label="Share with the positive this far up",
        series=tuple(ranks),
        x_scale="log",
        notes=(
            "A query with several relevant passages counts with the one that was drawn for it.",
        ),
    )
    return [*figures, found]


def _scores(mining: Mining, *, key: str) -> Figure:
    histogram = mining.summary["score_histogram"]
    edges = tuple(map(float, histogram["edges"]))
    counts = {name: histogram[kind] for kind, name in _KINDS.items() if sum(histogram[kind])}
    series = tuple(
        Series(name, edges, (*(count / sum(found) for count in found), 0.0))
        for name, found in counts.items()
    )
    totals = ", ".join(f"{sum(found):,} {name}" for name, found in counts.items())
    return Figure(
        key=key,
        caption=f"Each line shows how one kind of passages scores: {mining.label}",
        x_label=_SCORES[mining.candidates],
        y_label="Share of passages",
        series=series,
        kind="steps",
        notes=(
            f"Training queries of seed {mining.seed}, {len(edges) - 1} bins of one width; the bins "
            f"of a line sum to 1: {totals}.",
        ),
    )


def _ranks(mining: Mining) -> list[Series]:
    """Of the training queries, and of dev where there are any."""
    splits = {mining.label: mining.summary, f"{mining.label}, dev": mining.summary["dev"]}
    return [
        Series(
            label,
            tuple(map(float, summary["positive_within"])),
            tuple(count / summary["queries"] for count in summary["positive_within"].values()),
        )
        for label, summary in splits.items()
        if summary is not None and summary["queries"]
    ]
