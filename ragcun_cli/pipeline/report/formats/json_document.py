"""Tables and figures as one JSON document."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.table import Table


def render_json(tables: Sequence[Table], figures: Sequence[Drawing] = ()) -> str:
    """``{"figures": [...], "tables": [...]}``, each with key, caption and notes; keys are sorted.

    A row is an object from a column's key to the unscaled value: a number, a text, null for *not
    measured*, ``{"mean", "deviation"}`` or ``{"value", "low", "high"}``. The order of columns is
    that of ``columns``. ``scale`` is the factor of the displayed value. ``daggers`` and ``best``
    are pairs, the name of a row and the key of a column. A figure has ``series``, each ``{"label",
    "x", "y"}`` with a y for each x, or, if it is a forest plot, ``estimates`` and ``summaries``.
    """
    document = {
        "figures": [asdict(figure) for figure in figures],
        "tables": [_table(table) for table in tables],
    }
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2, sort_keys=True)
    return f"{text}\n"


def _table(table: Table) -> dict[str, object]:
    content = asdict(table)
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in content["rows"]]
    marks = {"daggers": sorted(table.daggers), "best": sorted(table.best)}
    return content | {"rows": rows} | marks
