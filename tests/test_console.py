"""What a person sees of a table where the terminal is too narrow for it."""

import io
import signal

import pytest
from rich.console import Console
from rich.text import Text

from ragcun_cli import console
from ragcun_cli.pipeline.machine import stops
from ragcun_cli.pipeline.report.table import Column, Table, WithInterval

SCORES = {f"set-{number}": 0.1 + number / 100 for number in range(12)}


def table(models):
    columns = (
        Column("model", "Model"),
        *(Column(name, name, digits=1, scale=100) for name in SCORES),
    )
    rows = tuple((model, *SCORES.values()) for model in models)
    return Table(key="results", caption="Results", columns=columns, rows=rows, notes=("A note.",))


def shown(monkeypatch, found, *, width):
    out = Console(
        file=io.StringIO(), force_terminal=True, color_system=None, width=width, soft_wrap=True
    )
    monkeypatch.setattr(console, "out", out)
    console.show_table(found)
    return [line.strip() for line in out.file.getvalue().splitlines()]


def test_a_wide_terminal_shows_a_row_for_each_model(monkeypatch):
    lines = shown(monkeypatch, table(["one", "two"]), width=140)
    rows = [line.split() for line in lines if line.startswith(("one", "two"))]
    assert [len(row) for row in rows] == [13, 13]


@pytest.mark.parametrize(("width", "parts"), [(20, 3), (60, 1)])
def test_a_narrow_terminal_shows_it_on_its_side_and_breaks_no_number(monkeypatch, width, parts):
    models = ["baseline_no_isotropy", "with_isotropy", "frozen_efficient"]
    lines = shown(monkeypatch, table(models), width=width)
    assert max(map(len, lines)) <= width
    for name, score in SCORES.items():
        rows = [line.split()[1:] for line in lines if line.split()[:1] == [name]]
        assert len(rows) == parts
        assert [cell for row in rows for cell in row] == [f"{100 * score:.1f}"] * len(models)
    assert "A note." in lines


def watched(monkeypatch, *, terminal, **options):
    """A watcher, and a function for what it has shown."""
    file = io.StringIO()
    err = console.SafeConsole(file=file, force_terminal=terminal, width=100, soft_wrap=True)
    monkeypatch.setattr(console, "err", err)
    return console.Watcher("train x", **options), lambda: Text.from_ansi(file.getvalue()).plain


def test_a_watcher_says_at_once_what_begins(monkeypatch):
    _, seen = watched(monkeypatch, terminal=False)
    assert seen() == "train x: looking at what is done and what is not\n"


def test_the_stage_stays_above_the_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    watcher, seen = watched(monkeypatch, terminal=True)
    watcher.stage("stage 23 of 83, about 12 min left: mine x")
    with watcher.bar("mine x", total=2, unit="queries") as advance:
        advance(1)
    frame = seen().split("\n", 2)[2]
    assert frame.startswith("stage 23 of 83, about 12 min left: mine x\n")
    assert "mine x" in frame.splitlines()[1]


@pytest.mark.parametrize(("terminal", "kind"), [(True, "dumb"), (False, "xterm")])
def test_without_cursor_movements_there_are_lines(monkeypatch, terminal, kind):
    monkeypatch.setenv("TERM", kind)
    now = iter([0.0, 30.0, 61.0, 61.0, 70.0, 80.0, 80.0, *[100.0] * 9])
    watcher, seen = watched(monkeypatch, terminal=terminal)
    monkeypatch.setattr(console.time, "perf_counter", lambda: next(now))
    with watcher.bar("mine x", total=500, unit="queries") as advance:
        for _ in range(3):
            advance(100)
    lines = seen().splitlines()[1:]
    assert lines[0].startswith("mine x: 200 queries in ")
    assert lines[0].endswith("of 500")
    assert lines[-1].startswith("mine x: 500 queries in ")
    assert len(lines) == 2


def test_details_are_for_those_who_ask_for_them(monkeypatch):
    plain, seen = watched(monkeypatch, terminal=False)
    plain.detail("more")
    assert "more" not in seen()
    verbose, seen = watched(monkeypatch, terminal=False, verbose=True)
    verbose.detail("more")
    assert "more" in seen()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_a_place_to_stop(monkeypatch, terminal):
    watcher, _ = watched(monkeypatch, terminal=terminal)
    with stops.heeded(), watcher.bar("", total=2, unit="texts") as advance:
        advance(1)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(stops.Stopped):
            advance(1)


def test_rows_after_the_first_twenty_are_not_shown_unless_all_are(monkeypatch):
    many = table([f"model-{number}" for number in range(25)])
    out = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=200)
    monkeypatch.setattr(console, "out", out)
    console.show_table(many, whole=False)
    shown = out.file.getvalue()
    assert "model-19 " in shown
    assert "model-20 " not in shown
    assert "Not shown: 5 rows; --all shows them." in shown
    console.show_table(many)
    assert "model-24 " in out.file.getvalue()


def test_what_stands_behind_a_number_goes_below_it_before_a_table_is_turned(monkeypatch):
    columns = (Column("model", "Model"), Column("score", "Score"), Column("device", "Device"))
    value = WithInterval(0.25, 0.125, 0.375)
    narrow = Table("results", "", columns, rows=(("one", value, "a card, manycoloured"),))
    lines = shown(monkeypatch, narrow, width=44)
    assert [line for line in lines if "[" in line] == ["[0.125, 0.375]   manycoloured"]
    assert [line.split()[:2] for line in lines if "0.25" in line] == [["one", "0.25"]]
    lines = shown(monkeypatch, narrow, width=34)
    assert "0.25 [0.125, 0.375]" in " ".join(lines)
