"""The figure of a ladder of free changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragcun_cli.pipeline.report.contrasts import POINTS
from ragcun_cli.pipeline.report.figure import Estimate, Forest


def what_if_figure(found: Mapping[str, Any]) -> Forest:
    """The difference that each change of `what_if.json` makes."""
    return Forest(
        key="what-if-forest",
        caption="What free changes of the embeddings would do",
        x_label="Difference of nDCG@10 to the untouched model in points",
        y_label="Change",
        estimates=tuple(
            Estimate(one["name"], *(POINTS * end for end in one["difference"]))
            for one in found["rungs"]
        ),
        notes=("A line is the 95 % interval over queries, uncorrected.",),
    )
