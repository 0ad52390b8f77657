"""Figures of trainings: dev scores and the terms of the loss over steps."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.gather import read_measured
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.spec.paths import TRAINING_LOG

MEASURED = {
    "eval_ndcg@10": ("dev-ndcg", "nDCG@10 on the dev queries during training", "nDCG@10"),
    "raw_contrastive": ("loss-contrastive", "The contrastive loss during training", "Loss"),
    "raw_isotropy": ("loss-isotropy", "The SIGReg loss during training", "Loss"),
    "raw_variance": ("loss-variance", "The variance loss during training", "Loss"),
}
"""Key of a line of the training log -> key of the figure, its caption, what its y is."""

_Log = Sequence[Mapping[str, float]]


def training_figures(rows: Sequence[ModelRow], road: Road, runner: Runner) -> list[Figure]:
    """A figure for each measured thing, a line for each model, the mean of its seeds."""
    logs: dict[str, list[_Log]] = {}
    for row in rows:
        for seed in row.seeds if row.run.reference is None else ():
            content = read_measured(road.trainings.task(seed.run), TRAINING_LOG, runner)
            if content is not None:
                log = [json.loads(line) for line in content.decode().splitlines()]
                logs.setdefault(row.label, []).append(log)
    figures = []
    for key, (name, caption, y_label) in MEASURED.items():
        lines = {label: _mean_line(found, key) for label, found in logs.items()}
        if series := tuple(Series(label, *xy) for label, xy in lines.items() if xy[0]):
            figures.append(
                Figure(
                    key=name,
                    caption=caption,
                    x_label="Training step",
                    y_label=y_label,
                    series=series,
                    notes=("Each line is the mean over the seeds that logged its steps.",),
                )
            )
    return figures


def _mean_line(logs: Sequence[_Log], key: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Steps that all seeds logged, and the mean over seeds there."""
    by_seed = [{line["step"]: line[key] for line in log if key in line} for log in logs]
    steps = sorted(set.intersection(*(set(found) for found in by_seed)))
    means = (statistics.fmean(found[step] for found in by_seed) for step in steps)
    return tuple(map(float, steps)), tuple(means)
