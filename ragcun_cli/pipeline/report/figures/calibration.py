"""The figure of calibration: what share of best hits is relevant, by what their scores predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.gather import Row, calibrations


def calibration_figures(rows: Sequence[Row], suffix: str = "") -> list[Figure]:
    """The reliability curve of each model on the data set with the most queries."""
    sets = [name for name in rows[0].datasets if all(name in row.datasets for row in rows)]
    if not sets:
        return []
    largest = max(sets, key=lambda name: rows[0].seeds[0].metrics[name]["queries"])
    curves = {
        row.label: [
            bin_ for part in calibrations(row.seeds[0].metrics[largest]) for bin_ in part["curve"]
        ]
        for row in rows
    }
    drawn = {label: sorted(curve, key=_predicted) for label, curve in curves.items() if curve}
    if not drawn:
        return []
    series = [
        Series(
            label,
            tuple(bin_["predicted"] for bin_ in curve),
            tuple(bin_["observed"] for bin_ in curve),
        )
        for label, curve in drawn.items()
    ]
    return [
        Figure(
            key=f"reliability{suffix}",
            caption=f"Reliability of the best hit's score on {largest}",
            x_label="predicted probability that the best hit is relevant",
            y_label="share of relevant best hits",
            series=(*series, Series("perfect", (0.0, 1.0), (0.0, 1.0))),
            notes=("One point for each tenth of the queries, of the first seed.",),
        )
    ]


def _predicted(bin_: Mapping[str, Any]) -> float:
    return float(bin_["predicted"])
