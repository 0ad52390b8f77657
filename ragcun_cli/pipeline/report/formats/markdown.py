"""Tables as GitHub writes them, padded so that the source reads as a table too, and figures."""

import re
from collections.abc import Sequence

from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.table import (
    Align,
    Cell,
    Table,
    best_cells,
    cell_parts,
    column_align,
    legend,
    one_line,
)
from ragcun_cli.spec.paths import FIGURES


def render_markdown(
    tables: Sequence[Table],
    figures: Sequence[Drawing] = (),
    *,
    title: str | None = None,
    generated_from: str | None = None,
) -> str:
    """A section for each table, the meaning of bold, ``±`` and intervals, one for each figure.

    Args:
        tables: in the order to print.
        figures: after the tables, by the names of their files.
        title: the heading of the page.
        generated_from: one line under the title that says what the numbers come from.
    """
    blocks = [f"# {as_markdown(title)}"] if title else []
    blocks += [_paragraph(generated_from)] if generated_from else []
    for table in tables:
        blocks += [f"## {as_markdown(table.caption)}", _grid(table)]
        blocks += ["\n".join(f"- {_paragraph(note)}" for note in table.notes)] * bool(table.notes)
    blocks += [_paragraph(" ".join(legend(tables)))] * bool(legend(tables))
    for figure in figures:
        caption = as_markdown(figure.caption)
        blocks += [f"## {caption}", f"![{caption}]({FIGURES}/{figure.key}.svg)"]
        blocks += ["\n".join(f"- {_paragraph(note)}" for note in figure.notes)] * bool(figure.notes)
    return "\n\n".join(blocks) + "\n"


def as_markdown(text: str) -> str:
    """The text on one line, with nothing left that GitHub would read as markup.

    An underscore inside a word is none, so names such as ``with_isotropy`` stay readable.
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", one_line(text)).replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]#|~$])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def _paragraph(text: str) -> str:
    """The text escaped, and not to be taken for a list or an underline either."""
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", as_markdown(text))


def _grid(table: Table) -> str:
    best = best_cells(table)
    rows = [[as_markdown(column.label) for column in table.columns]]
    for number, row in enumerate(table.rows):
        bold = [(number, index) in best for index in range(len(row))]
        rows.append([_cell(table, row, index, bold=bold[index]) for index in range(len(row))])
    aligns = [column_align(table, index) for index in range(len(table.columns))]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rules = [_rule(align, width) for align, width in zip(aligns, widths, strict=True)]
    return "\n".join(_line(row, aligns, widths) for row in [rows[0], rules, *rows[1:]])


def _cell(table: Table, row: tuple[Cell, ...], index: int, *, bold: bool) -> str:
    main, detail = cell_parts(table.columns[index], row[index])
    main = table.dagger(row, index) + (as_markdown(main) if isinstance(row[index], str) else main)
    return f"**{main}** {detail}".rstrip() if bold else f"{main} {detail}".rstrip()


def _rule(align: Align, width: int) -> str:
    left, right = {"left": ("-", "-"), "right": ("-", ":"), "center": (":", ":")}[align]
    return f"{left}{'-' * (width - 2)}{right}"


def _line(cells: Sequence[str], aligns: Sequence[Align], widths: Sequence[int]) -> str:
    place = {"left": str.ljust, "right": str.rjust, "center": str.center}
    padded = (
        place[align](cell, width) for cell, align, width in zip(cells, aligns, widths, strict=True)
    )
    return f"| {' | '.join(padded)} |"
