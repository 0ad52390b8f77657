"""Whatever the words and numbers, each format says them and nothing else."""

import csv
import io
import json
import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ragcun_cli.pipeline.report.formats import latex, markdown
from ragcun_cli.pipeline.report.formats.html_page import render_html
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.formats.tidy_csv import render_csv
from ragcun_cli.pipeline.report.table import (
    Column,
    Difference,
    Table,
    WithDeviation,
    cell_text,
    one_line,
)

AWKWARD = "a_1*`~^$%&#{}[]()<>|\\\"'!-+=.:;,@/ \n\r\té\N{MINUS SIGN}±λ中"
LETTERS = st.sampled_from(AWKWARD) | st.characters(exclude_categories=("Cs",))
WORDS = st.text(LETTERS, min_size=1, max_size=12).filter(one_line)
NUMBERS = st.floats(-1e9, 1e9)
SPREADS = st.builds(WithDeviation, NUMBERS, st.floats(0, 1e9))
DIFFERENCES = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(
    lambda numbers: Difference(numbers[0], min(numbers[1:]), max(numbers[1:]))
)
CELLS = st.one_of(st.none(), NUMBERS, st.integers(-(10**12), 10**12), SPREADS, DIFFERENCES, WORDS)
TABLE_TAGS = ("table", "thead", "tbody", "tr", "th", "td")


@st.composite
def tables(draw):
    width = draw(st.integers(0, 3))
    columns = [
        Column(
            key=f"column {number}",
            label=draw(WORDS),
            digits=draw(st.none() | st.integers(0, 3)),
            scale=draw(st.sampled_from((1.0, 100.0))),
        )
        for number in range(width + 1)
    ]
    names = draw(st.lists(WORDS, max_size=4, unique=True))
    cells = [(name, column.key) for name in names for column in columns[1:]]
    return Table(
        key="results",
        caption=draw(WORDS),
        columns=tuple(columns),
        rows=tuple((name, *(draw(CELLS) for _ in range(width))) for name in names),
        notes=tuple(draw(st.lists(WORDS, max_size=2))),
        best=frozenset(draw(st.lists(st.sampled_from(cells))) if cells else ()),
    )


def number(text):
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def cell_of_csv(line):
    if line["low"]:
        return Difference(*(number(line[name]) for name in ("value", "low", "high")))
    if line["deviation"]:
        return WithDeviation(number(line["value"]), number(line["deviation"]))
    return number(line["value"]) if line["value"] else words_of_csv(line["text"]) or None


def words_of_csv(text):
    return text.removeprefix("'")


@given(tables())
def test_csv_reads_back_as_the_same_cells(table):
    lines = list(csv.DictReader(io.StringIO(render_csv([table]), newline="")))
    expected = [
        (table.key, row[0], column.key, cell)
        for row in table.rows
        for column, cell in zip(table.columns[1:], row[1:], strict=True)
    ]
    found = [(e["table"], words_of_csv(e["row"]), e["column"], cell_of_csv(e)) for e in lines]
    assert found == expected
    words = [text for line in lines for text in (line["row"], line["text"])]
    assert not any(re.match("[-=+@\t\r\n]", text) for text in words)
    assert [type(cell) for *_, cell in found] == [type(cell) for *_, cell in expected]


@given(tables())
def test_json_reads_back_as_the_same_cells(table):
    (found,) = json.loads(render_json([table]))["tables"]
    keys = [column["key"] for column in found["columns"]]
    for row, cells in zip(found["rows"], table.rows, strict=True):
        for key, cell in zip(keys, cells, strict=True):
            is_pair = isinstance(cell, WithDeviation | Difference)
            assert row[key] == (vars(cell) if is_pair else cell)
            assert type(row[key]) is (dict if is_pair else type(cell))


@given(WORDS)
def test_latex_escaping_leaves_no_bare_special(text):
    escaped = latex.as_latex(text)
    words = r"\\[&%#_{}]|\\symbol\{36\}|\\text[a-z]+\{\}|\{[][*]\}|[-']\{\}"
    commands = rf"{words}|\$\\[a-zA-Z]+\$|\$-\$|\$\^\\circ\$"
    assert not re.search(r"[\\&%$#_{}~^<>|`\[\]*\n]|--|''", re.sub(commands, "x", escaped))


@given(tables())
def test_latex_rows_have_as_many_cells_as_the_preamble_has_columns(table):
    text = latex.render_latex([table])
    tabulars = re.findall(r"^  \\begin\{tabular\}(.*?)^  \\end\{tabular\}", text, flags=re.M | re.S)
    shown = 0
    for tabular in tabulars:
        preamble = re.match(r"\{@\{\}(.*)@\{\}\}\n", tabular)[1]
        columns = len(re.sub(r"@\{\\,\}", "", preamble))
        rows = re.findall(r"^    (?!\\(?:top|mid|bottom)rule)(.*) \\\\$", tabular, flags=re.M)
        assert len(rows) == len(table.rows) + 1
        shown += len(re.sub(r"r@\{\\,\}l", "r", preamble)) - table.heading_columns
        for row in rows:
            spans = row.count(r"\multicolumn{2}")
            assert len(re.findall(r"(?<!\\)&", row)) + spans == columns - 1
    assert shown == len(table.columns) - table.heading_columns


class Texts(HTMLParser):
    """The text of each element of some kinds, in their order."""

    def __init__(self, *kinds):
        super().__init__()
        self.kinds, self.texts, self.tags = kinds, [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in self.kinds:
            self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data


def texts_of(page, *kinds):
    parser = Texts(*kinds)
    parser.feed(page)
    parser.close()
    return [one_line(text) for text in parser.texts], parser.tags


def expected_texts(table):
    labels = [one_line(column.label) for column in table.columns]
    rows = [
        cell_text(column, cell)
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
    ]
    return labels + rows


@given(tables())
@settings(max_examples=50, deadline=None)
def test_html_shows_each_cell_and_no_text_becomes_markup(table):
    page = render_html([table], title=table.caption, generated_from=table.caption)
    texts, tags = texts_of(page, "th", "td", "ul")
    assert texts[: len(expected_texts(table))] == expected_texts(table)
    assert {"script", "img", "a", "b"}.isdisjoint(tags)


@given(tables())
def test_markdown_rows_have_one_bar_more_than_cells(table):
    lines = [line for line in markdown.render_markdown([table]).split("\n") if line[:1] == "|"]
    assert len(lines) == len(table.rows) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == len(table.columns) + 1


@given(tables())
@settings(max_examples=50, deadline=None)
def test_markdown_renders_to_the_same_texts(table):
    page = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render(markdown.render_markdown([table], title=table.caption))
    )
    texts, tags = texts_of(page, "h1", "h2", "th", "td", "li", "p")
    caption = one_line(table.caption)
    notes = [one_line(note) for note in table.notes]
    expected = [caption, caption, *expected_texts(table), *notes]
    assert texts[: len(expected)] == expected
    assert set(tags) <= {*TABLE_TAGS, "h1", "h2", "ul", "li", "p", "strong"}
