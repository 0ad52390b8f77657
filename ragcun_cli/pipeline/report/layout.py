"""How a table stands in a paper: which columns it has, which way round, in letters of what size.

Widths are Computer Modern's, which most other faces are narrower than.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ragcun_cli.pipeline.report.table import (
    Cell,
    Column,
    Table,
    WithDeviation,
    best_cells,
    cell_parts,
    cell_text,
    legend,
    one_line,
)
from ragcun_cli.spec.errors import WorkspaceError

COLUMN, PAGE = 219.0, 452.0
"""Points across a column of a two-column paper and across both, where a class leaves least: those
of ACL and, on A4, of article."""
FITS = ((COLUMN, 9), (COLUMN, 8), (PAGE, 9), (PAGE, 8), (PAGE, 7))
"""Room and size of letters, in points, the best first."""
GAPS = {9: 8.0, 8: 6.0, 7: 5.0}
"""Points between two columns, by size of letters."""
LEADING = 1.2
"""From line to line, over the size of letters."""
DETAIL = 7
"""Points of a deviation or an interval beside its number."""
NAME_ROOM, WORDS_ROOM, HEADING_ROOM = 110.0, 85.0, 36.0
"""Points that a row's name, other words and a heading over narrow cells take before they are broken
into lines."""
LONGEST_PIECE = 60.0
"""Points of a word over which it is cut wherever its line ends."""
MOST_HEIGHT = 400.0
"""Points of a table on one page, beside its notes."""
MOST_SETS = 8
"""Data sets beside each other."""
AVERAGE = "average"
"""What the keys of columns of averages begin with."""
SETS = "sets"
"""Stands for the columns of all data sets."""

_EMS = {
    278: "!',.:;[]`il ", 306: "fj", 333: "-", 361: "I", 392: "()tr", 444: "cezs",
    500: '"$*/0123456789\\^ago{}~', 528: "<>?_kqvxyJ", 556: "Sbdhnpu", 625: "LZ", 681: "EPF",
    736: "BCTwR", 785: "AHNUVXYD&+=@KOQG\N{MINUS SIGN}±", 833: "#%m", 917: "M",
}  # fmt: skip
"""Thousandths of an em, rounded up -> letters of that width; others take one em."""
_WIDTHS = {letter: ems / 1000 for ems, letters in _EMS.items() for letter in letters}
_STRETCH = {9: 1.03, 8: 1.065, 7: 1.16}
_BOLD = 1.16


class PrintedBest(str):
    """A cell of a table that was turned, as it reads: the best of its row."""


@dataclass(frozen=True)
class Float:
    """A table that fits a page of a paper."""

    table: Table
    size: int
    """Of its letters, in points."""
    is_wide: bool
    """Spans both columns of the page."""
    width: float
    """Points that it takes, or somewhat less."""
    blocks: tuple[Table, ...]
    """Its columns in groups, to be set below each other; one where they stand side by side."""


def for_appendix(table: Table) -> bool:
    """Whether a paper has the table after its text: those of isotropy are long."""
    return table.key.split("-")[0] in ("isotropy", "licences")


def choose_columns(tables: Sequence[Table], wanted: Sequence[str]) -> list[Table]:
    """The tables, that of the results with these columns, also of other tables of the same rows.

    Args:
        tables: of a report.
        wanted: keys or labels in the order to print; ``sets`` stands for all data sets.

    Raises:
        WorkspaceError: no such table has such a column.
    """
    return [
        _with_columns(table, tables, wanted) if table.key.split("-")[0] == "results" else table
        for table in tables
    ]


def _with_columns(main: Table, tables: Sequence[Table], wanted: Sequence[str]) -> Table:
    names = [row[0] for row in main.rows]
    found: dict[str, tuple[Column, dict[Cell, Cell], Table]] = {}
    for table in (main, *tables):
        rows = {row[0]: row for row in table.rows}
        if (
            table.columns[0] == main.columns[0]
            and table.heading_columns == 1
            and {*names} & {*rows}
        ):
            for index, column in enumerate(table.columns[1:], 1):
                cells = {name: row[index] for name, row in rows.items()}
                found.setdefault(column.key, (column, cells, table))
    by_name = {column.label: key for key, (column, *_) in reversed(found.items())}
    by_name |= {key: key for key in found}
    sets = [column.key for column in main.columns if column.is_set]
    asked = [name.strip() for name in wanted]
    listed = [name for each in asked for name in (sets if each == SETS else [each])]
    for name in listed:
        if name not in by_name:
            raise WorkspaceError(
                f"no table of these rows has a column '{name}'",
                hint=f"--columns {','.join((SETS, *(key for key in found if key not in sets)))}",
            )
    chosen = [found[key] for key in dict.fromkeys(by_name[name] for name in listed)]
    return replace(
        main,
        columns=(main.columns[0], *(column for column, *_ in chosen)),
        rows=tuple((name, *(cells.get(name, "none") for _, cells, _ in chosen)) for name in names),
        notes=tuple(
            dict.fromkeys(n for table in (main, *(t for *_, t in chosen)) for n in table.notes)
        ),
    )


def for_print(table: Table, *, transpose: bool | None = None) -> list[Table]:
    """The tables that a paper has of one.

    Data sets stand as means alone. Where all their columns do not fit beside the others, they are a
    table of their own: one row for each where models are fewer, else in groups of eight.

    Args:
        table: as it is.
        transpose: whether data sets are rows; None decides by their number.
    """
    sets = [index for index, column in enumerate(table.columns) if column.is_set]
    if not sets:
        return [table]
    means = _means(table, sets)
    turned = len(table.rows) < len(sets) if transpose is None else transpose
    room, size = FITS[3]
    if not transpose and len(sets) <= MOST_SETS and _table_width(means, size) <= room:
        return [means]
    others = [index for index in range(1, len(table.columns)) if index not in sets]
    beside = [*sets, *(index for index in others if table.columns[index].key.startswith(AVERAGE))]
    parts = _chunks(beside, 1 if turned else -(-len(beside) // (MOST_SETS + 1)))
    own = [_part(means, part) for part in parts]
    first = [_part(table, others)] if {*others} - {*beside} else []
    notes = () if first else table.notes
    kept = [replace(one, notes=(*notes, *means.notes[len(table.notes) :])) for one in own]
    tables = [*first, *map(_turned, kept)] if turned else [*first, *kept]
    suffixes = ["", *(f"-by-set-{n}" if n > 1 else "-by-set" for n in range(1, len(tables)))]
    return [
        replace(
            one, key=table.key + suffix, caption=table.caption + (", set by set" * bool(suffix))
        )
        for one, suffix in zip(tables, suffixes, strict=True)
    ]


def _means(table: Table, sets: Sequence[int]) -> Table:
    """The table without the deviations of single data sets, which a note says."""
    rows = tuple(
        tuple(
            cell.mean if index in sets and isinstance(cell, WithDeviation) else cell
            for index, cell in enumerate(row)
        )
        for row in table.rows
    )
    said = "Of single data sets the means over seeds, without their deviations."
    return replace(table, rows=rows, notes=(*table.notes, *[said] * (rows != table.rows)))


def _part(table: Table, kept: Sequence[int]) -> Table:
    """The columns that name a row, and these."""
    indices = [*range(table.heading_columns), *kept]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in indices),
        rows=tuple(tuple(row[index] for index in indices) for row in table.rows),
    )


def _turned(table: Table) -> Table:
    """Columns as rows; cells are texts, since a column of them holds numbers of several kinds."""
    best = best_cells(table)
    rows = []
    for index, column in enumerate(table.columns[1:], 1):
        cells: list[Cell] = [one_line(column.label)]
        for number, row in enumerate(table.rows):
            kind = PrintedBest if (number, index) in best else str
            cells.append(
                None
                if row[index] is None
                else kind(
                    table.dagger(row, index) + cell_text(column, row[index]).replace("± ", "±")
                )
            )
        rows.append(tuple(cells))
    names = [table.row_name(row) for row in table.rows]
    marks = " ".join(legend([table])).replace("column", "row")
    return replace(
        table,
        columns=(Column("row", "Data set"), *(Column(name, name, align="right") for name in names)),
        rows=tuple(rows),
        notes=(*table.notes, *[marks] * bool(marks)),
        daggers=frozenset(),
        best=frozenset(),
    )


def floats_of(table: Table) -> list[Float]:
    """The table in the largest letters that fit, its columns in as few groups as fit.

    Where its rows are more than a page holds, it is several.
    """
    size, is_wide, blocks = _fit(table)
    width = max(_table_width(block, size) for block in blocks)
    floats: list[Float] = []
    for start, end in pairwise(_page_ends(blocks, size)):
        some = tuple(replace(block, rows=block.rows[start:end]) for block in blocks)
        whole = replace(table, rows=table.rows[start:end])
        if floats:
            key, caption = f"{table.key}-part-{len(floats) + 1}", f"{table.caption}, continued"
            whole = replace(whole, key=key, caption=caption, notes=())
        floats.append(Float(whole, size, is_wide, width, some))
    return floats


def _fit(table: Table) -> tuple[int, bool, list[Table]]:
    for room, size in FITS:
        if _table_width(table, size) <= room:
            return size, room == PAGE, [table]
    indices = range(table.heading_columns, len(table.columns))
    for count in range(2, len(indices) + 1):
        blocks = [_part(table, chunk) for chunk in _chunks(indices, count)]
        if all(_table_width(block, 8) <= PAGE for block in blocks):
            return 8, True, blocks
    return 8, True, [table]


def _page_ends(blocks: Sequence[Table], size: int) -> list[int]:
    """Where the rows of each page begin and end."""
    headings = [
        heading_lines(block, i, size) for block in blocks for i in range(len(block.columns))
    ]
    heading = len(blocks) * max(map(len, headings))
    ends, height = [0], heading
    for number, _ in enumerate(blocks[0].rows):
        lines = 0
        for block in blocks:
            words = [
                (i, cell) for i, cell in enumerate(block.rows[number]) if isinstance(cell, str)
            ]
            lines += max((len(cell_lines(block, *word, size)) for word in words), default=1)
        if (height + lines) * size * LEADING > MOST_HEIGHT and number > ends[-1]:
            ends.append(number)
            height = heading
        height += lines
    return [*ends, len(blocks[0].rows)]


def _chunks(items: Sequence[int], count: int) -> list[Sequence[int]]:
    """The items in so many groups of nearly one length."""
    ends = [round(number * len(items) / count) for number in range(count + 1)]
    return [items[start:end] for start, end in pairwise(ends)]


def _table_width(table: Table, size: int) -> float:
    widths = [_column_width(table, index, size) for index in range(len(table.columns))]
    return sum(widths) + GAPS[size] * (len(widths) - 1)


def _column_width(table: Table, index: int, size: int) -> float:
    heading = (_width(line, size) for line in heading_lines(table, index, size))
    return max(_body_width(table, index, size), *heading)


def _body_width(table: Table, index: int, size: int) -> float:
    column = table.columns[index]
    is_bold = any(key == column.key for _, key in table.best)
    mains, details, words = [0.0], [0.0], [_width("--", size)]
    for row in table.rows:
        main, detail = cell_parts(column, cell := row[index])
        if isinstance(cell, str):
            bold = cell.partition(" ")[0] if isinstance(cell, PrintedBest) else ""
            more = (_BOLD - 1) * _width(bold, size)
            words += [_width(line, size) + more for line in cell_lines(table, index, cell, size)]
        elif cell is not None:
            main = table.dagger(row, index) + main
            mains.append(_width(main, size) * (_BOLD if is_bold else 1))
            details.append(_width(detail, DETAIL))
    pair = max(details) + size / 6 if max(details) else 0.0
    return max(max(mains) + pair, *words)


def heading_lines(table: Table, index: int, size: int) -> list[str]:
    """The label of a column, in lines that are hardly wider than its cells."""
    is_name = index < table.heading_columns
    room = NAME_ROOM if is_name else max(HEADING_ROOM, _body_width(table, index, size))
    return _lines(table.columns[index].label, room, size)


def cell_lines(table: Table, index: int, text: str, size: int) -> list[str]:
    """The words of a cell, in lines that fit their column."""
    room = NAME_ROOM if index < table.heading_columns else WORDS_ROOM
    return _lines(text, room, size)


def _lines(text: str, room: float, size: int) -> list[str]:
    """The text in as few lines as fit, none much longer than the others."""
    lines = _broken(text, room, size)
    for narrower in range(int(room), 0, -4) if len(lines) > 1 else ():
        if len(tighter := _broken(text, narrower, size)) > len(lines):
            break
        lines = tighter
    return lines


def _broken(text: str, room: float, size: int) -> list[str]:
    lines = [""]
    for piece in re.findall(r".+?(?:[ _-]+|/(?=\w{3})|$)", one_line(text)):
        if lines[-1] and _width((lines[-1] + piece).rstrip(), size) > room:
            lines.append("")
        for letter in piece:
            if _width((lines[-1] + letter).rstrip(), size) > max(room, LONGEST_PIECE):
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines]


def _width(text: str, size: int) -> float:
    """Points; an accent takes no room of its own."""
    base = [sign for sign in unicodedata.normalize("NFD", text) if not unicodedata.combining(sign)]
    return size * _STRETCH[size] * sum(_WIDTHS.get(sign, 1.0) for sign in base)
