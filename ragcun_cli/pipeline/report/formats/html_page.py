"""Tables and figures as one web page that needs no network and no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.table import (
    Table,
    best_cells,
    cell_parts,
    column_align,
    legend,
)


@dataclass(frozen=True)
class _Shown:
    """A cell as the template sees it."""

    main: str
    detail: str
    align: str
    is_heading: bool
    is_best: bool
    is_missing: bool
    room: str
    """The longest detail of the column, whose width a number without one leaves free."""


def render_html(
    tables: Sequence[Table],
    figures: Sequence[Drawing] = (),
    *,
    title: str,
    generated_from: str,
) -> str:
    """The page, the same bytes for the same arguments.

    Args:
        tables: in the order to print.
        figures: after the tables, drawn into the page.
        title: title and first heading of the page.
        generated_from: one line under the title that says what the numbers come from.
    """
    from ragcun_cli.pipeline.report.figures.draw import inline_svg

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    source = files(__package__).joinpath("page.html.jinja").read_text("utf-8")
    return environment.from_string(source).render(
        title=title,
        generated_from=generated_from,
        tables=[(table, _rows(table)) for table in tables],
        figures=[(figure, inline_svg(figure)) for figure in figures],
        alignment=column_align,
        legend=legend(tables),
    )


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
                room=rooms[index] if isinstance(cell, int | float) else "",
            )
            for index, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        ]
        for number, row in enumerate(table.rows)
    ]
