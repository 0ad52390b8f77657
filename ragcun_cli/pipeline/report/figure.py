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
    kind: Literal["line", "steps"] = "line"
    """`steps` for histograms: y holds from its x to the next."""
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    notes: tuple[str, ...] = ()
    """Printed under the figure, one line each."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.key):
            raise ValueError(f"figure {self.key!r}: the key cannot name a file")
        labels = [series.label for series in self.series]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"figure {self.key!r}: labels {labels} do not tell its lines apart")
