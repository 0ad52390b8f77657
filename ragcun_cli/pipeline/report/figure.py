"""One figure of measured numbers: what is drawn, without how."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Series:
    """One line of a figure.

    Raises:
        ValueError: it has no points, not one y for each x, or a number that is not finite.
    """

    label: str
    """For the legend."""
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.x or len(self.x) != len(self.y):
            counts = f"{len(self.x)} x for {len(self.y)} y"
            raise ValueError(f"series {self.label!r}: {counts}")
        if not all(map(math.isfinite, (*self.x, *self.y))):
            raise ValueError(f"series {self.label!r}: a number is not finite")


@dataclass(frozen=True)
class Figure:
    """Lines over the same axes.

    Raises:
        ValueError: there are no lines, two have the same label, or ``key`` cannot name a file.
    """

    key: str
    """File stem and LaTeX label: letters, digits, ``.``, ``_`` and ``-``."""
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["line", "steps", "points"] = "line"
    """`steps` for histograms: y holds from its x to the next; `points` without lines."""
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    notes: tuple[str, ...] = ()
    """Printed under the figure, one line each."""

    def __post_init__(self) -> None:
        _check_names(self.key, self.lines)

    @property
    def lines(self) -> list[str]:
        """What its lines are called."""
        return [series.label for series in self.series]


@dataclass(frozen=True)
class Estimate:
    """One line of a forest plot.

    Raises:
        ValueError: a number is not finite.
    """

    label: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()
    """The values of single seeds."""
    prediction: tuple[float, float] | None = None
    """The ends of a wider interval: that of one new set."""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high, *self.seeds))):
            raise ValueError(f"estimate {self.label!r}: a number is not finite")


@dataclass(frozen=True)
class Forest:
    """Estimates below each other with their intervals, and what they come to.

    Raises:
        ValueError: there are no estimates, two have the same label, or ``key`` cannot name a file.
    """

    key: str
    """File stem and LaTeX label: letters, digits, ``.``, ``_`` and ``-``."""
    caption: str
    x_label: str
    estimates: tuple[Estimate, ...]
    summaries: tuple[Estimate, ...] = ()
    """Over all of them."""
    notes: tuple[str, ...] = ()
    """Printed under the figure, one line each."""
    y_label: str = "Data set"

    def __post_init__(self) -> None:
        _check_names(self.key, self.lines)

    @property
    def lines(self) -> list[str]:
        """What its lines are called."""
        return [estimate.label for estimate in (*self.estimates, *self.summaries)]


Drawing = Figure | Forest


def _check_names(key: str, labels: list[str]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", key):
        raise ValueError(f"figure {key!r}: the key cannot name a file")
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"figure {key!r}: labels {labels} do not tell its lines apart")
