"""A report as one web page that needs no network and no script: the answer first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ragcun_cli.pipeline.report.background import Background
from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.table import (
    Table,
    best_cells,
    cell_parts,
    column_align,
    legend,
)

ASKED = ("contrasts", "claims", "trials", "forest", "contrast-by-set", "contrasts-by-group")
"""Keys of what answers the question, in the order to print."""

HEADINGS = ("Contrasts and claims", "Results", "Figures", "Appendix")
"""Under which tables and figures stand, in this order."""

APPENDIX = re.compile(r"isotropy(-passages|-by-n-\w+)?|mining-\w+|licences")
"""Keys of what few read: long tables, and figures of how negatives were found."""


@dataclass(frozen=True)
class _Shown:
    """A cell as the template sees it."""

    main: str
    detail: str
    align: str
    is_heading: bool
    is_best: bool
    is_missing: bool
    is_text: bool
    room: str
    """The longest detail of the column, whose width a number without one leaves free."""


def render_html(
    tables: Sequence[Table],
    figures: Sequence[Drawing] = (),
    *,
    title: str,
    generated_from: str,
    background: Background | None = None,
) -> str:
    """The page, the same bytes for the same arguments.

    Args:
        tables: in the order to print; what answers the question comes first all the same.
        figures: after the tables, drawn into the page.
        title: title and first heading of the page.
        generated_from: one line under the title that says what the numbers come from.
        background: the answer and the warnings, which come first, and the runs, which come last.
    """
    from ragcun_cli.pipeline.report.figures.draw import inline_svg

    return filled(
        "page.html.jinja",
        title=title,
        generated_from=generated_from,
        background=background or Background(),
        sections=_sections([*tables, *figures]),
        rows=_rows,
        drawing=inline_svg,
        alignment=column_align,
        legend=legend,
    )


def filled(template: str, **values: object) -> str:
    """The page that a template of this folder makes of values; what is no markup is escaped."""
    environment = Environment(
        loader=FunctionLoader(lambda name: files(__package__).joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def _sections(blocks: Sequence[Table | Drawing]) -> dict[str, list[Table | Drawing]]:
    """Heading -> what stands under it; none is empty."""
    grouped = groupby(sorted(blocks, key=_place), key=lambda block: _place(block)[0])
    return {HEADINGS[number]: list(some) for number, some in grouped}


def _place(block: Table | Drawing) -> tuple[int, int]:
    """The number of its heading, and its place under it."""
    stem = re.sub(r"-\d+$", "", block.key)  # without the number of a group of rows
    if stem in ASKED:
        return 0, ASKED.index(stem)
    if APPENDIX.fullmatch(stem):
        return 3, 0
    return 1 if isinstance(block, Table) else 2, 0


def _rows(table: Table) -> list[list[_Shown]]:
    best = best_cells(table)
    rooms = [
        max((cell_parts(column, row[index])[1] for row in table.rows), key=len, default="")
        for index, column in enumerate(table.columns)
    ]
    return [
        [
            _Shown(
                table.dagger(row, index) + cell_parts(column, cell)[0],
                cell_parts(column, cell)[1],
                align=column_align(table, index),
                is_heading=index < table.heading_columns,
                is_best=(number, index) in best,
                is_missing=cell is None,
                is_text=isinstance(cell, str),
                room=rooms[index] if isinstance(cell, int | float) else "",
            )
            for index, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        ]
        for number, row in enumerate(table.rows)
    ]
