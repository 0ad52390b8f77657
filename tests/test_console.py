"""What a person sees of a table where the terminal is too narrow for it."""

import io

import pytest
from rich.console import Console

from ragcun_cli import console
from ragcun_cli.pipeline.report.table import Column, Table

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
