"""Every format of one store of results: to the byte, and the same numbers in all of them.

After a wanted change: ``python tests/pipeline/report/test_results_store.py``, and read the diff.
"""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from results_store import ABSENT, store

from ragcun_cli.pipeline.report.formats.formats import EXTENSIONS, render
from ragcun_cli.pipeline.report.formats.latex import as_latex
from ragcun_cli.pipeline.report.layout import floats_of, for_print
from ragcun_cli.pipeline.report.table import (
    Difference,
    WithDeviation,
    WithInterval,
    cell_parts,
    cell_text,
)
from ragcun_cli.pipeline.report.tasks import tables_of

GOLDEN = Path(__file__).parent / "golden"
TABLES = tables_of([store()])


def texts():
    return {
        f"store.{extension}": render(TABLES, (), name, title="store")
        for name, extension in EXTENSIONS.items()
    }


@pytest.mark.parametrize("name", texts())
def test_every_byte_of_a_report_is_as_recorded(name):
    assert texts()[name] == (GOLDEN / name).read_bytes().decode()


def numbers(text):
    return re.findall(r"\d[\d,.]*", text)


def cells(table):
    for row in table.rows:
        for index, column in enumerate(table.columns):
            if index >= table.heading_columns:
                yield table, row, index, column


def every_cell():
    return [each for table in TABLES for each in cells(table)]


def test_json_and_csv_have_each_number_unrounded():
    content = {table["key"]: table for table in json.loads(texts()["store.json"])["tables"]}
    lines = {
        (line["table"], line["row"], line["column"]): line
        for line in csv.DictReader(io.StringIO(texts()["store.csv"]))
    }
    assert len(lines) == len(every_cell())
    for table, row, index, column in every_cell():
        cell = row[index]
        place = [one for one in content[table.key]["rows"] if one[table.columns[0].key] == row[0]]
        of_json = place[0][column.key]
        line = lines[table.key, table.row_name(row), column.key]
        match cell:
            case None:
                assert (of_json, line["value"], line["text"]) == (None, "", "")
            case str():
                assert (of_json, line["text"].removeprefix("'")) == (cell, cell)
            case WithDeviation(mean, deviation):
                assert of_json == {"mean": mean, "deviation": deviation}
                assert (float(line["value"]), float(line["deviation"])) == (mean, deviation)
            case WithInterval(value, low, high):
                assert of_json == {"value": value, "low": low, "high": high}
                ends = (float(line[name]) for name in ("value", "low", "high"))
                assert tuple(ends) == (value, low, high)
            case _:
                assert of_json == cell == float(line["value"])


class Cells(HTMLParser):
    """The texts of the cells of tables, row by row."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.inside = False

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_markdown_and_the_page_have_each_number_as_people_read_it():
    page = Cells()
    page.feed(texts()["store.html"])
    of_page = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    lines = [line for line in texts()["store.md"].splitlines() if line.startswith("| ")]
    of_markdown = [
        [cell.strip().replace("**", "").replace("\\", "") for cell in line[1:-1].split(" | ")]
        for line in lines
    ]
    for table in TABLES:
        for row in table.rows:
            shown = [
                " ".join((table.dagger(row, n) + cell_text(column, row[n])).split())
                for n, column in enumerate(table.columns)
            ]
            assert shown in of_markdown
            assert shown in of_page


def test_latex_has_each_number_as_people_read_it():
    text = texts()["store.tex"]
    lines = [re.sub(r"\\fontsize\{7\}\{7\}", "", line) for line in text.splitlines()]
    found = [numbers(re.sub(r"\\multicolumn\{2\}", "", line)) for line in lines if " & " in line]
    printed = [one for table in TABLES for part in for_print(table) for one in floats_of(part)]
    assert len(printed) >= len(TABLES)
    for one in printed:
        for block in one.blocks:
            for row in block.rows:
                shown = [
                    as_latex(" ".join(cell_parts(column, cell)))
                    for column, cell in zip(block.columns, row, strict=True)
                    if not isinstance(cell, str) and cell is not None
                ]
                wanted = [number for part in shown for number in numbers(part)]
                assert any(_within(wanted, line) for line in found), (one.table.key, row)


def _within(wanted, line):
    """The numbers stand in the line in this order; words of it hold others."""
    rest = iter(line)
    return all(number in rest for number in wanted)


def test_what_is_not_there_reads_not_measured_in_every_format_and_is_in_no_average():
    results = next(table for table in TABLES if table.key == "results")
    keys = [column.key for column in results.columns]
    for row in results.rows:
        assert row[keys.index(ABSENT)] is None
        assert row[keys.index("average")] is not None
    assert any("reproduce --profile store" in note for note in results.notes)
    assert "not measured" in texts()["store.md"]
    assert "not measured" in texts()["store.html"]
    assert "--: not measured." in texts()["store.tex"]
    assert any(isinstance(row[index], Difference) for _, row, index, _ in every_cell())


if __name__ == "__main__":
    for name, text in texts().items():
        (GOLDEN / name).write_bytes(text.encode())
