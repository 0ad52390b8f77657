import dataclasses
import json

import pytest

from ragcun_cli.pipeline.report.formats.html_page import render_html
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.formats.latex import render_latex
from ragcun_cli.pipeline.report.formats.markdown import render_markdown
from ragcun_cli.pipeline.report.formats.tidy_csv import render_csv
from ragcun_cli.pipeline.report.table import (
    Column,
    Difference,
    Table,
    WithDeviation,
    WithInterval,
    best_cells,
    cell_parts,
    cell_text,
    column_align,
    legend,
)

MINUS = "\N{MINUS SIGN}"
POINTS = Column("ndcg", "nDCG@10", digits=1, scale=100)
COUNT = Column("count", "Count")


def table(cells, column=POINTS):
    """One column of cells beside the names of their rows."""
    return Table(
        key="results",
        caption="Results",
        columns=(Column("experiment", "Experiment"), column),
        rows=tuple((f"row {number}", cell) for number, cell in enumerate(cells)),
    )


@pytest.mark.parametrize(
    ("column", "cell", "text"),
    [
        (POINTS, None, "not measured"),
        (POINTS, 0.47519, "47.5"),
        (POINTS, 1, "100.0"),
        (POINTS, WithDeviation(0.4752, 0.0031), "47.5 ± 0.3"),
        (POINTS, Difference(0.012, 0.003, 0.021), "+1.2 [+0.3, +2.1]"),
        (POINTS, Difference(-0.012, -0.021, 0.0), f"{MINUS}1.2 [{MINUS}2.1, 0.0]"),
        (POINTS, -0.0004, "0.0"),
        (POINTS, Difference(-0.0004, -0.0004, 0.0004), "0.0 [0.0, 0.0]"),
        (POINTS, "two\n words", "two words"),
        (COUNT, 1234567, "1,234,567"),
        (Column("p", "p", digits=3, least=0.001), 0.00099, "<0.001"),
        (Column("p", "p", digits=3, least=0.001), 0.001, "0.001"),
        (COUNT, -1234, f"{MINUS}1,234"),
        (COUNT, 0, "0"),
        (COUNT, 0.1 + 0.2, "0.3"),
        (Column("seconds", "Seconds", digits=0), 8130.4, "8,130"),
    ],
)
def test_a_cell_reads_as_a_person_would_write_it(column, cell, text):
    assert cell_text(column, cell) == text


def test_the_parts_keep_the_value_and_its_uncertainty_apart():
    assert cell_parts(POINTS, WithDeviation(0.4752, 0.0031)) == ("47.5", "± 0.3")
    assert cell_parts(POINTS, 0.4752) == ("47.5", "")


def test_the_cells_in_bold_are_those_that_the_table_names():
    bold = dataclasses.replace(table([0.1, 0.2, None]), best=frozenset({("row 1", "ndcg")}))
    assert best_cells(bold) == {(1, 1)}
    assert best_cells(table([0.1, 0.2])) == frozenset()


@pytest.mark.parametrize(
    ("cells", "align"),
    [([0.1, "reference"], "right"), (["a", None], "left"), ([None], "right"), ([0], "right")],
)
def test_numbers_stand_to_the_right_and_words_to_the_left(cells, align):
    assert column_align(table(cells), 1) == align
    assert column_align(table(cells), 0) == "left"


def test_a_column_may_say_where_it_stands():
    assert column_align(table([1], dataclasses.replace(COUNT, align="center")), 1) == "center"


def test_the_legend_explains_only_the_marks_that_occur():
    assert legend([table([None, 0.5])]) == ()
    assert len(legend([table([WithDeviation(0.1, 0.1), 0.5])])) == 1
    bold = dataclasses.replace(table([Difference(0, 0, 0)]), best=frozenset({("row 0", "ndcg")}))
    assert len(legend([table([WithDeviation(0.1, 0.1)]), bold])) == 3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e307])
def test_a_number_that_is_not_finite_as_shown_is_refused_with_its_place(number):
    for cell in (
        number,
        WithDeviation(number, 0),
        WithDeviation(0, abs(number)),
        Difference(number, 0, 1),
    ):
        with pytest.raises(ValueError, match=r"'results', row 'row 1', column 'ndcg': .*finite"):
            table([0.5, cell])


def test_a_nan_end_of_an_interval_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        table([Difference(0.1, float("nan"), 0.2)])


@pytest.mark.parametrize("cell", [True, [0.5], 1j, b"text"])
def test_what_is_no_cell_is_refused(cell):
    with pytest.raises(TypeError, match="row 'row 0', column 'ndcg'"):
        table([cell])


@pytest.mark.parametrize("cell", ["", " \n"])
def test_a_blank_is_neither_a_word_nor_not_measured(cell):
    with pytest.raises(ValueError, match="blank"):
        table([cell])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "../results"}, "cannot name a file"),
        ({"rows": (("a",),)}, "row 1: 1 cells under 2 columns"),
        ({"rows": (("a", 1), ("a", 2))}, "more than one row is named 'a'"),
        ({"rows": ((None, 1),)}, "row 1, column 'experiment': None does not name the row"),
        ({"columns": (COUNT, COUNT)}, "more than one column is named 'count'"),
        ({"heading_columns": 0}, "0 of 2 columns"),
        ({"heading_columns": 3}, "3 of 2 columns"),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(table([1]), **change)


def test_rows_may_be_named_by_two_columns_together():
    named = Table(
        key="cost",
        caption="Cost",
        columns=(Column("experiment", "Experiment"), Column("data_set", "Data set"), COUNT),
        rows=(("base", "scifact", 1), ("base", "fiqa", 2)),
        heading_columns=2,
    )
    assert [named.row_name(row) for row in named.rows] == ["base / scifact", "base / fiqa"]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="below 0"):
        WithDeviation(0.5, -0.1)
    with pytest.raises(ValueError, match="ends before it begins"):
        Difference(0.5, 0.6, 0.4)
    with pytest.raises(ValueError, match="scale"):
        Column("a", "a", scale=0)
    with pytest.raises(ValueError, match="decimals"):
        Column("a", "a", digits=-1)


def test_latex_says_what_its_dashes_mean_where_there_are_some():
    with_gap, without_gap = render_latex([table([0.1, None])]), render_latex([table([0.1, 0.2])])
    assert "row 1 & -- \\\\" in with_gap
    assert "--: not measured." in with_gap
    assert "--" not in without_gap


def test_latex_spreads_only_a_wide_table_over_both_columns_of_a_page():
    columns = tuple(Column(f"set-{n}", f"dataset{n}", digits=1) for n in range(8))
    wide = Table("wide", "Wide", (Column("run", "Run"), *columns), (("a", *[1.0] * 8),))
    assert r"\begin{table*}" in render_latex([wide])
    assert r"\begin{table}" in render_latex([table([1])])


def test_latex_numbers_with_and_without_a_spread_stand_under_each_other():
    text = render_latex([table([0.1, WithDeviation(0.2, 0.01), None, "reference"])])
    assert r"{@{}lr@{\,}l@{}}" in text
    assert r"row 0 & 10.0 & \\" in text
    assert r"row 1 & 20.0 & {\fontsize{7}{7}\selectfont $\pm$1.0} \\" in text
    assert r"row 2 & \multicolumn{2}{c@{}}{--} \\" in text


def test_not_measured_stands_in_words_where_there_is_room():
    tables = [table([0.1, None])]
    assert "| not measured |" in render_markdown(tables)
    assert ">not measured</td>" in render_html(tables, title="T", generated_from="plan")


def test_a_page_of_no_tables_is_still_a_page():
    assert "<h1>T</h1>" in render_html([], title="T", generated_from="plan")
    assert render_markdown([], title="T") == "# T\n"


def test_a_page_loads_nothing():
    page = render_html([table([0.1, None])], title="T", generated_from="plan")
    assert not any(mark in page for mark in ("http:", "https:", "<script", "<link", "url(", "src="))


def test_an_interval_has_no_sign_and_a_legend_of_its_own():
    cell = WithInterval(0.25, -0.5, 1.0)
    shown = table([cell], Column("score", "Score", digits=2))
    assert cell_text(shown.columns[1], cell) == f"0.25 [{MINUS}0.50, 1.00]"
    assert legend([shown]) == ("[low, high] after a value: its 95% interval, of what notes say.",)
    for text in (render_latex([shown]), render_markdown([shown], title="T")):
        assert "1.00" in text
    (row,) = json.loads(render_json([shown]))["tables"][0]["rows"]
    assert row["score"] == {"value": 0.25, "low": -0.5, "high": 1.0}
    assert ",score,0.25,-0.5,1.0,," in render_csv([shown])
    with pytest.raises(ValueError, match="ends before it begins"):
        WithInterval(0.0, 1.0, 0.5)
