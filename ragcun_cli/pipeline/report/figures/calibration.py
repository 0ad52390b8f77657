"""The figure of calibration: what share of best hits is relevant, by what their scores predict."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.rows import ModelRow, calibrations, shared_datasets

_predicted = itemgetter("predicted")


def calibration_figures(rows: Sequence[ModelRow]) -> list[Figure]:
    """The reliability curve of each model on the data set with the most queries."""
    if not (sets := shared_datasets(rows)):
        return []
    largest = max(sets, key=lambda name: rows[0].seeds[0].metrics[name]["queries"])
    series = []
    for row in rows:
        parts = calibrations(row.seeds[0].metrics[largest])
        bins = sorted(chain.from_iterable(part["curve"] for part in parts), key=_predicted)
        if bins:
            observed = tuple(bin_["observed"] for bin_ in bins)
            series.append(Series(row.label, tuple(map(_predicted, bins)), observed))
    if not series:
        return []
    return [
        Figure(
            key="reliability",
            caption=f"A calibrated score of the best hit lies on the diagonal, here on {largest}",
            x_label="Predicted probability that the best hit is relevant",
            y_label="Share of relevant best hits",
            series=(*series, Series("perfect", (0.0, 1.0), (0.0, 1.0))),
            notes=("One point for each tenth of the queries, of the first seed.",),
        )
    ]
