"""How a forest plot is drawn."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

from ragcun_cli.pipeline.report.figure import Estimate, Forest
from ragcun_cli.pipeline.report.table import Column, Difference, cell_text, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_INCHES = 0.26
LABEL_LETTERS = 24
"""On a line under the axis."""
AROUND_INCHES = 1.0
"""Above and below the lines: the axis and its label."""
SEED_OFFSET = 0.24
NUMBERS = Column("difference", "Difference", digits=1)
COLOUR, SEED_COLOUR, SUMMARY_COLOUR = "#0072B2", "#777777", "#D55E00"


def forest_height(figure: Forest) -> float:
    """Inches that its lines take."""
    return AROUND_INCHES + LINE_INCHES * (len(figure.estimates) + len(figure.summaries))


def draw_forest(axes: Axes, figure: Forest) -> None:
    """One line for each set from above, the summaries below, and a line at 0."""
    lines = [*figure.estimates, *figure.summaries]
    axes.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    for place, estimate in enumerate(lines):
        _draw_estimate(axes, -place, estimate, is_summary=place >= len(figure.estimates))
    if figure.summaries:
        axes.axhline(0.5 - len(figure.estimates), color="#cccccc", linewidth=0.8)
    axes.set_yticks([-place for place in range(len(lines))])
    axes.set_yticklabels([one_line(estimate.label) for estimate in lines])
    axes.set_xlabel(fill(one_line(figure.x_label), LABEL_LETTERS))
    axes.grid(visible=False, axis="y")
    numbers = axes.twinx()
    numbers.set_yticks([-place for place in range(len(lines))])
    numbers.set_yticklabels([cell_text(NUMBERS, _difference(estimate)) for estimate in lines])
    numbers.tick_params(axis="y", length=0)
    numbers.grid(visible=False)
    for side in (axes, numbers):
        side.set_ylim(0.7 - len(lines), 0.7)


def _difference(estimate: Estimate) -> Difference:
    return Difference(estimate.value, estimate.low, estimate.high)


def _draw_estimate(axes: Axes, y: float, estimate: Estimate, *, is_summary: bool) -> None:
    colour = SUMMARY_COLOUR if is_summary else COLOUR
    if estimate.prediction is not None:
        axes.plot(estimate.prediction, (y, y), color=colour, linewidth=0.8, zorder=2)
    axes.plot((estimate.low, estimate.high), (y, y), color=colour, linewidth=2.2, zorder=3)
    axes.plot(
        [estimate.value],
        [y],
        marker="D" if is_summary else "s",
        markersize=6 if is_summary else 5,
        color=colour,
        zorder=4,
    )
    axes.plot(
        estimate.seeds,
        [y - SEED_OFFSET] * len(estimate.seeds),
        linestyle="none",
        marker="o",
        markersize=2.6,
        color=SEED_COLOUR,
        zorder=5,
    )
