"""The only module that imports rich: what a person sees. Data on stdout, all else on stderr."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from ragcun_cli.pipeline.machine.stops import at_once, safe_point
from ragcun_cli.spec.addresses import shown, without_home
from ragcun_cli.spec.errors import RagcunError

if TYPE_CHECKING:
    from ragcun_cli.pipeline.machine.progress import Advance
    from ragcun_cli.pipeline.report.table import Table

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What a terminal obeys instead of showing it, or cannot show: control characters but tab and line
feed, changes of direction, separators of lines, bytes that are no text."""


def visible(text: str) -> str:
    r"""A text of somebody else's as a terminal may show it: ``\u001b`` for ESC, as in JSON."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class SafeConsole(Console):
    """A console on which no text can command the terminal."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich does it; what rich itself has to say to the terminal is not text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    def print(self, *objects: Any, **more: Any) -> None:  # noqa: ANN401
        """As rich does it.

        Raises:
            RagcunError: standard output cannot be written. Messages that cannot be are lost.
        """
        with _written(is_data=not self.stderr):
            super().print(*objects, **more)

    def on_broken_pipe(self) -> None:
        """Pass the error on."""
        raise


@contextmanager
def _written(*, is_data: bool) -> Iterator[None]:
    """Where nobody reads on, as in ``| head``, there is no more to say, and nothing failed."""
    try:
        yield
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (sys.stdout if is_data else sys.stderr).fileno())
        if is_data and isinstance(error, BrokenPipeError):
            sys.exit(0)
        if is_data:
            message = f"standard output cannot be written: {error.strerror}"
            raise RagcunError(message, hint="df -h, if it goes to a file") from error


out = SafeConsole(soft_wrap=True, highlight=False)
err = SafeConsole(stderr=True, soft_wrap=True, highlight=False)

MOST_ROWS = 20
"""Of a table that a terminal shows unless all are asked for."""

SHORT = 12
"""Cells up to this long are never broken."""

GAP = 3
"""Characters that a column takes beside its cells."""

LINE_SECONDS = 60.0
"""Between the lines that a long loop leaves in a log."""

PLAIN_WIDTH = 240
"""Of a table that goes to a file or a pipe: wide enough that no cell is folded."""


def show_error(error: RagcunError) -> None:
    """Print what went wrong, then what to do about it."""
    err.print(f"[red]Error:[/] {escape(str(error))}")
    if error.hint:
        hint(error.hint)


def hint(command: str) -> None:
    """Say which command comes next."""
    err.print(f"[dim]Hint:[/] {escape(command)}")


def say(text: str) -> None:
    """One line for the person at the terminal."""
    err.print(escape(shown(text)))


def write(text: str) -> None:
    """Data for stdout, as it is; on a terminal what it would obey is made visible."""
    with _written(is_data=True):
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.write("" if text.endswith("\n") else "\n")
        sys.stdout.flush()


def show(document: Any, *, as_json: bool, table: Callable[[], None]) -> None:  # noqa: ANN401
    """A result in one of its two forms.

    Args:
        document: one JSON document on stdout, or its text, or what makes either when it is asked
            for; None is none.
        as_json: show that.
        table: shows the result to a person.
    """
    if not as_json:
        table()
        return
    value = document() if callable(document) else document
    if value is not None:
        write_json(value)


def write_json(value: Any) -> None:  # noqa: ANN401
    """One JSON document on stdout; a text is one already."""
    is_text = isinstance(value, str)
    write(value if is_text else json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def width() -> int:
    """Characters that a table may take in a line of stdout."""
    return out.width if out.is_terminal else PLAIN_WIDTH


def show_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A small table of texts on stdout."""
    _print_table(_table_of(title, columns, rows))


def _table_of(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    table = _rich_table(title)
    for number, name in enumerate(columns):
        widest = max((len(row[number]) for row in rows), default=0)
        table.add_column(escape(name), overflow="fold", no_wrap=number == 0 or widest <= SHORT)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def show_tables(tables: Sequence[Table], *, whole: bool = True) -> None:
    """Tables of measured numbers, one after the other."""
    from ragcun_cli.pipeline.report.table import legend

    for table in tables:
        show_table(table, whole=whole)
    for sentence in legend(tables):
        out.print(Text(sentence, style="dim"), soft_wrap=not out.is_terminal)


def show_table(table: Table, *, whole: bool = True) -> None:
    """A table of measured numbers on stdout, its best cells bold, its notes below.

    Where the terminal is too narrow for its columns, what stands behind a number goes below it.
    Where that is not enough, the table is turned on its side, in several parts if need be: no
    number is ever broken.

    Args:
        table: to show.
        whole: False leaves out what makes it long on a terminal, and says so: rows after the first
            `MOST_ROWS` and, where they do not fit, the columns of single data sets.
    """
    from ragcun_cli.pipeline.report.table import shortened

    less = ""
    if out.is_terminal and not whole:
        table, less = shortened(table, most_rows=MOST_ROWS, sets=_fits(table))
    narrow = out.is_terminal and not _fits(table)
    if narrow and not _fits(table, narrow=True):
        for part in _on_its_side(table, _cells_of(table)):
            _print_table(part)
    else:
        _print_upright(table, narrow=narrow)
    for note in [*[f"Not shown: {less}; --all shows them."] * bool(less), *table.notes]:
        out.print(Text(note, style="dim"), soft_wrap=not out.is_terminal)
    out.print()


def _cells_of(table: Table, *, narrow: bool = False) -> list[list[Text]]:
    """The cells as people read them; in a narrow table the interval is below its number."""
    from ragcun_cli.pipeline.report.table import best_cells, cell_parts

    best, between = best_cells(table), "\n" if narrow else " "
    return [
        [
            Text(
                table.dagger(row, index) + between.join(filter(None, cell_parts(column, cell))),
                style="bold" if (number, index) in best else "",
            )
            for index, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        ]
        for number, row in enumerate(table.rows)
    ]


def _widths(table: Table, *, narrow: bool = False) -> list[int]:
    """Characters that each column takes at least; in a narrow table texts are broken at blanks."""
    cells = _cells_of(table, narrow=narrow)
    return [
        max(
            *map(len, column.label.split()),
            *(
                len(part)
                for shown, row in zip(cells, table.rows, strict=True)
                for part in shown[index].plain.split(
                    None if narrow and isinstance(row[index], str) else "\n"
                )
            ),
        )
        for index, column in enumerate(table.columns)
    ]


def _fits(table: Table, *, narrow: bool = False) -> bool:
    return sum(_widths(table, narrow=narrow)) + GAP * len(table.columns) <= out.width


def _print_upright(table: Table, *, narrow: bool) -> None:
    """A row for each row."""
    from ragcun_cli.pipeline.report.table import column_align

    shown, widths = _rich_table(table.caption), _widths(table, narrow=narrow)
    for index, (column, least) in enumerate(zip(table.columns, widths, strict=True)):
        of_texts = all(isinstance(row[index], str) for row in table.rows)
        shown.add_column(
            column.label,
            justify=column_align(table, index),
            min_width=least,
            width=least if narrow and not of_texts else None,
            overflow="fold",
        )
    for row in _cells_of(table, narrow=narrow):
        shown.add_row(*row)
    _print_table(shown, width=max(PLAIN_WIDTH, sum(widths) + GAP * len(widths)))


def _on_its_side(table: Table, cells: Sequence[Sequence[Text]]) -> Iterator[RichTable]:
    """A row for each column, in as many tables as it takes to break no number."""
    names = [Text(table.row_name(row)) for row in table.rows]
    heads = table.heading_columns
    labels = [column.label for column in table.columns[heads:]]
    widths = [max(len(cell) for cell in row[heads:]) for row in cells]
    start = 0
    while start < len(cells):
        stop, room = start, out.width - max(map(len, labels)) - GAP
        while stop < len(cells) and (stop == start or widths[stop] + GAP <= room):
            room -= widths[stop] + GAP
            stop += 1
        part = _rich_table(table.caption)
        part.add_column("", no_wrap=True)
        for at in range(start, stop):
            part.add_column(names[at], justify="right", min_width=widths[at], overflow="fold")
        for index, label in enumerate(labels, heads):
            part.add_row(label, *(cells[at][index] for at in range(start, stop)))
        yield part
        start = stop


def _rich_table(title: str) -> RichTable:
    return RichTable(
        title=escape(title) or None, title_justify="left", box=box.SIMPLE, pad_edge=False
    )


def _print_table(table: RichTable, *, width: int = PLAIN_WIDTH) -> None:
    if out.is_terminal:
        out.print(table, soft_wrap=False)
    else:
        SafeConsole(width=width, highlight=False, soft_wrap=False).print(table)


def asking(yes: bool) -> Callable[[str], bool]:
    """Asks a question on a terminal; without one only ``--yes`` agrees."""

    def agree(question: str) -> bool:
        if yes:
            return True
        say(question)
        if not (sys.stdin.isatty() and err.is_terminal):
            return False
        with at_once(), suppress(EOFError):  # Ctrl-D
            return err.input("[y/N] ", markup=False).strip().lower() in {"y", "yes"}
        return False

    return agree


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        """Empty until there is something to divide."""
        unit = task.fields["unit"]
        return Text(f"{task.speed:,.1f} {unit}/s" if task.speed else "", style="dim")


class _Bar(Progress):
    """A bar under a line that says how far the whole command is."""

    above = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """That line, then the bar."""
        yield Text(self.above, style="dim")
        yield from super().get_renderables()


class Watcher:
    """Shows the progress of stages: bars on a terminal, plain lines elsewhere, or nothing."""

    def __init__(self, begins: str = "", *, quiet: bool = False, verbose: bool = False) -> None:
        """Say at once what begins, for what it needs is not read in a moment."""
        self._quiet = quiet
        self._verbose = verbose
        self._stage = ""
        self._live: Live | None = None
        if begins:
            self.note(f"{begins}: looking at what is done and what is not")

    def note(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            say(without_home(text))

    def detail(self, text: str) -> None:
        """One line with ``--verbose``."""
        if self._verbose:
            self.note(text)

    def stage(self, text: str) -> None:
        """One line, which stays above the bars of the stage."""
        self.note(text)
        self._stage = text

    def measure(self, values: Mapping[str, float]) -> None:
        """Nothing: a training's log has it."""

    def board(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table that stays at the bottom of a terminal; elsewhere nothing."""
        if self._live is not None and not rows:
            self._live.stop()
            self._live = None
        if rows and not self._quiet and err.is_terminal and not err.is_dumb_terminal:
            if self._live is None:
                self._live = Live(console=err, auto_refresh=False, transient=True)
                self._live.start()
            self._live.update(_table_of(title, columns, rows), refresh=True)

    @contextmanager
    def bar(self, label: str, *, total: int, unit: str) -> Iterator[Advance]:
        """A bar with rate and time left; without a terminal a line now and then."""
        if self._quiet or not err.is_terminal or err.is_dumb_terminal:
            with self._plain(label, total=total, unit=unit) as advance:
                yield advance
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            *(
                (DownloadColumn(), TransferSpeedColumn())
                if unit == "B"
                else (MofNCompleteColumn(), _Rate())
            ),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with _Bar(*columns, console=err, transient=True) as progress:
            progress.above = self._stage
            task = progress.add_task(escape(label), total=total, unit=unit)

            def advance_bar(count: int) -> None:
                progress.advance(task, count)
                safe_point()

            yield advance_bar

    @contextmanager
    def _plain(self, label: str, *, total: int, unit: str) -> Iterator[Advance]:
        """A line each minute, and one at the end when it took more than a moment."""
        done, started = 0, time.perf_counter()
        said = started

        def line(count: int) -> str:
            size, shown = (1e6, "MB") if unit == "B" else (1, unit)
            seconds = time.perf_counter() - started
            rate = f"{seconds:.1f} s ({count / size / seconds:,.1f}/s)"
            return f"{label}: {count / size:,.0f} {shown} in {rate}"

        def advance(count: int) -> None:
            nonlocal done, said
            done += count
            if time.perf_counter() - said > LINE_SECONDS and done < total:
                said = time.perf_counter()
                self.note(f"{line(done)}, of {total:,}")
            safe_point()

        yield advance
        if time.perf_counter() - started > 2:
            self.note(line(total))
