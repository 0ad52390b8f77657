"""One table of measured numbers, and how its cells read in every format made for people."""

import math
import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Literal

Align = Literal["left", "right", "center"]

DAGGER = "†"


@dataclass(frozen=True)
class WithDeviation:
    """A mean over seeds with its standard deviation."""

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        if self.deviation < 0:
            raise ValueError(f"a standard deviation of {self.deviation} is below 0")


@dataclass(frozen=True)
class WithInterval:
    """A value beside the ends of an interval; the table's notes say of what."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] ends before it begins")


class Difference(WithInterval):
    """A paired difference beside its 95% interval; shown with its sign."""


Cell = str | int | float | WithDeviation | WithInterval | None
"""None is *not measured*: never 0.0, never a default. A number that does not apply is a word."""


def over_seeds(values: Sequence[float | None]) -> Cell:
    """The number that all seeds have, or mean and deviation; None unless every seed has one."""
    measured = [value for value in values if value is not None]
    if not measured or len(measured) < len(values):
        return None
    if len(set(measured)) == 1:
        return measured[0]
    return WithDeviation(statistics.fmean(measured), statistics.stdev(measured))


@dataclass(frozen=True)
class Column:
    """What the cells of one column measure and how people see them."""

    key: str
    """The name for machines, such as ``pydocs-scipy``."""
    label: str
    """The name for people."""
    digits: int | None = None
    """Decimals of its numbers; None: integers whole, floats to 6 significant digits."""
    scale: float = 1.0
    """Factor for display, 100 for nDCG in points; CSV and JSON keep the unscaled value."""
    least: float = 0.0
    """A number below it, but not below 0, is shown as "<" and it: no p-value is 0."""
    align: Align | None = None
    """None: numbers to the right, names and words to the left."""
    is_set: bool = False
    """Whether it is of one data set, one among many."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"column {self.key!r}: scale {self.scale} is not finite and above 0")
        if self.digits is not None and self.digits < 0:
            raise ValueError(f"column {self.key!r}: {self.digits} decimals is below 0")


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns.

    Raises:
        ValueError: a number is NaN or infinite, a text is blank, a row has too few or too many
            cells, two rows or two columns have the same name, or ``key`` cannot name a file.
        TypeError: a cell is none of the types of ``Cell``; NumPy scalars are converted by whoever
            makes the table.
    """

    key: str
    """File stem and LaTeX label: letters, digits, ``.``, ``_`` and ``-``."""
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """Printed under the table, one line each."""
    heading_columns: int = 1
    """How many leading columns together name a row; their cells are texts or integers."""
    daggers: frozenset[tuple[str, str]] = frozenset()
    """Name of row and key of column of the cells with a dagger, which a note explains."""
    best: frozenset[tuple[str, str]] = frozenset()
    """The same of the cells in bold: the best of a column and what is not told from it."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.key):
            raise ValueError(f"table {self.key!r}: the key cannot name a file")
        if not 1 <= self.heading_columns <= len(self.columns):
            counts = f"{self.heading_columns} of {len(self.columns)} columns"
            raise ValueError(f"table {self.key!r}: {counts} name a row; at least one has to")
        self._refuse_repeats("column", [column.key for column in self.columns])
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                counts = f"{len(row)} cells under {len(self.columns)} columns"
                raise ValueError(f"table {self.key!r}, row {number}: {counts}")
            self._check_cells(number, row)
        self._refuse_repeats("row", [self.row_name(row) for row in self.rows])

    def row_name(self, row: tuple[Cell, ...]) -> str:
        """The row's heading cells, joined by `` / ``."""
        return " / ".join(str(cell) for cell in row[: self.heading_columns])

    def dagger(self, row: tuple[Cell, ...], index: int) -> str:
        """The dagger in front of a cell of the row, or nothing."""
        return DAGGER * ((self.row_name(row), self.columns[index].key) in self.daggers)

    def _check_cells(self, number: int, row: tuple[Cell, ...]) -> None:
        for index, (column, cell) in enumerate(zip(self.columns, row, strict=True)):
            is_heading = index < self.heading_columns
            where = f"row {number}" if is_heading else f"row {self.row_name(row)!r}"
            where = f"table {self.key!r}, {where}, column {column.key!r}"
            if isinstance(cell, bool) or not isinstance(cell, Cell):
                raise TypeError(f"{where}: {cell!r} is a {type(cell).__name__}, not a cell")
            if is_heading and not isinstance(cell, str | int):
                raise ValueError(f"{where}: {cell!r} does not name the row")
            if isinstance(cell, str) and not one_line(cell):
                raise ValueError(f"{where}: a blank text; None is not measured")
            if not all(math.isfinite(value * column.scale) for value in _numbers(cell)):
                raise ValueError(f"{where}: {cell!r} is not finite")

    def _refuse_repeats(self, kind: str, names: Sequence[str]) -> None:
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"table {self.key!r}: more than one {kind} is named {repeated[0]!r}")


def one_line(text: str) -> str:
    """The text without control characters, every run of white space made one blank."""
    kept = (sign for sign in text if sign.isspace() or unicodedata.category(sign) != "Cc")
    return " ".join("".join(kept).split())


def cell_text(column: Column, cell: Cell) -> str:
    """The cell as people read it, on one line, with U+2212 for minus and commas for thousands."""
    return " ".join(part for part in cell_parts(column, cell) if part)


def cell_parts(column: Column, cell: Cell) -> tuple[str, str]:
    """What the cell says, and what stands behind it: ``± 0.3``, ``[+0.3, +2.1]`` or nothing."""
    match cell:
        case None:
            return "not measured", ""
        case str():
            return one_line(cell), ""
        case WithDeviation(mean, deviation):
            return _number_text(column, mean), f"± {_number_text(column, deviation)}"
        case WithInterval():
            signed = isinstance(cell, Difference)
            value, *ends = (_number_text(column, end, signed=signed) for end in _numbers(cell))
            return value, f"[{', '.join(ends)}]"
        case _:
            return _number_text(column, cell), ""


def best_cells(table: Table) -> frozenset[tuple[int, int]]:
    """``(row, column)`` of the cells in bold."""
    return frozenset(
        (number, index)
        for number, row in enumerate(table.rows)
        for index, column in enumerate(table.columns)
        if (table.row_name(row), column.key) in table.best
    )


def shortened(table: Table, *, most_rows: int, sets: bool) -> tuple[Table, str]:
    """The table with its first rows alone and, without ``sets``, no column of a single data set.

    Returns:
        That table, and in words what it leaves out, or nothing.
    """
    kept = [index for index, column in enumerate(table.columns) if sets or not column.is_set]
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows[:most_rows])
    counts = {
        "rows": len(table.rows) - len(rows),
        "columns of single data sets": len(table.columns) - len(kept),
    }
    less = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    columns = tuple(table.columns[index] for index in kept)
    return replace(table, columns=columns, rows=rows), less


def column_align(table: Table, index: int) -> Align:
    """Where the cells of column ``index`` stand."""
    column = table.columns[index]
    if column.align:
        return column.align
    kinds = {type(row[index]) for row in table.rows if row[index] is not None}
    return "left" if index < table.heading_columns or kinds == {str} else "right"


def legend(tables: Sequence[Table]) -> tuple[str, ...]:
    """One sentence for each mark that occurs in the tables: bold, ``±`` and ``[ , ]``."""
    kinds = {type(cell) for table in tables for row in table.rows for cell in row}
    occurs = {
        "Bold: the best of its column among the rows measured here, and what is not below it at "
        "5 % (contrasts one by one, uncorrected).": any(best_cells(table) for table in tables),
        "±: standard deviation over seeds.": WithDeviation in kinds,
        "[low, high]: 95% interval of the paired difference.": Difference in kinds,
        "[low, high] after a value: its 95% interval, of what notes say.": WithInterval in kinds,
    }
    return tuple(sentence for sentence in occurs if occurs[sentence])


def _numbers(cell: Cell) -> tuple[float, ...]:
    """The value to compare first, then its uncertainty; nothing for a text or a missing cell."""
    if isinstance(cell, WithDeviation | WithInterval):
        return astuple(cell)
    return (cell,) if isinstance(cell, int | float) else ()


def _number_text(column: Column, value: float, *, signed: bool = False) -> str:
    if 0 <= value < column.least:
        return f"<{column.least:g}"
    if isinstance(value, int) and column.digits is None and column.scale == 1:
        precision = ",d"
    else:
        value *= column.scale
        precision = "z,.6g" if column.digits is None else f"z,.{column.digits}f"
    text = format(value, f"{'+' if signed else ''}{precision}")
    if not text.strip("+0."):
        text = text.removeprefix("+")
    return text.replace("-", "\N{MINUS SIGN}")
