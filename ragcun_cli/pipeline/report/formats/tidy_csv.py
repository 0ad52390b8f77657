"""Tables as one CSV file, a line for each measured thing."""

import csv
import io
from collections.abc import Sequence

from ragcun_cli.pipeline.report.table import Cell, Table, WithDeviation, WithInterval

_HEADER = ("table", "row", "column", "value", "low", "high", "deviation", "text", "dagger")


def render_csv(tables: Sequence[Table]) -> str:
    """Every cell but the rows' names, in the long form, as RFC 4180 (CRLF; write it unchanged).

    Tables with different columns fit one file only in the long form, and a number keeps its
    interval or deviation beside it; ``pandas.DataFrame.pivot`` makes a table of it again. Numbers
    are unscaled and exact: reading them gives the same floats. Words stand in ``text``, so that
    the other columns are numbers throughout; ``dagger`` is 1 or 0. Empty in both ``value`` and
    ``text``: not measured. Words that a spreadsheet would take for a formula have ``'`` in front,
    and words that begin with ``'`` have another.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_HEADER)
    for table in tables:
        for row in table.rows:
            cells = zip(table.columns, row, strict=True)
            name = _as_words(table.row_name(row))
            for index, (column, cell) in list(enumerate(cells))[table.heading_columns :]:
                dagger = int(bool(table.dagger(row, index)))
                writer.writerow([table.key, name, column.key, *_fields(cell), dagger])
    return buffer.getvalue()


def _fields(cell: Cell) -> tuple[str, str, str, str, str]:
    """``value, low, high, deviation, text`` of one cell."""
    match cell:
        case None:
            return "", "", "", "", ""
        case str():
            return "", "", "", "", _as_words(cell)
        case WithDeviation(mean, deviation):
            return _exact(mean), "", "", _exact(deviation), ""
        case WithInterval(value, low, high):
            return _exact(value), _exact(low), _exact(high), "", ""
        case _:
            return _exact(cell), "", "", "", ""


def _as_words(text: str) -> str:
    """As OWASP has it of CSV injection."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "'")) else text


def _exact(number: float) -> str:
    return str(number) if isinstance(number, int) else repr(float(number))
