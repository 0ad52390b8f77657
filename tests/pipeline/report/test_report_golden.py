"""The files a report is made of, to the byte.

After a wanted change: ``python tests/pipeline/report/test_report_golden.py``, and read the diff.
"""

from pathlib import Path

import pytest

from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.formats.html_page import render_html
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.formats.latex import render_latex
from ragcun_cli.pipeline.report.formats.markdown import render_markdown
from ragcun_cli.pipeline.report.formats.tidy_csv import render_csv
from ragcun_cli.pipeline.report.table import Column, Difference, Table, WithDeviation

GOLDEN = Path(__file__).parent / "golden"
TITLE = "Isotropy & retrieval <draft>"
GENERATED_FROM = "Plan R&D_paper, seeds 1\N{EN DASH}3, 100% of the queries"

RESULTS = Table(
    key="results",
    caption='nDCG@10 in points, "title_only" & <script>alert(1)</script>, 100% of the queries',
    columns=(
        Column("experiment", "Experiment"),
        Column("pydocs_scipy", "pydocs_scipy|dev", digits=1, scale=100),
        Column("fiqa", "FiQA-2018 test", digits=1, scale=100),
        Column("scifact", "SciFact", digits=1, scale=100),
        Column("rank", "Median rank of the positive"),
        Column("gain", "Gain over base [FiQA]", digits=1, scale=100),
    ),
    rows=(
        ("base", 0.4561, 0.3349, None, 12, "reference"),
        (
            "with_isotropy (λ=0.1)",
            WithDeviation(0.4754, 0.0031),
            WithDeviation(0.33512, 0.0102),
            None,
            3,
            Difference(0.0002, -0.0101, 0.0214),
        ),
        (
            '*naïve*, "quoted" | C:\\tmp\\~50% #1 {a} $x^2$',
            WithDeviation(0.4746, 0.0007),
            WithDeviation(0.335, 0.001),
            0.6,
            1204,
            Difference(-0.0123, -0.0204, -0.0031),
        ),
        ("[<b>bold</b>] --seed '' ``", None, 0.3351, None, None, None),
    ),
    best=frozenset(
        {
            ("with_isotropy (λ=0.1)", "pydocs_scipy"),
            ('*naïve*, "quoted" | C:\\tmp\\~50% #1 {a} $x^2$', "pydocs_scipy"),
            ("with_isotropy (λ=0.1)", "gain"),
        }
    ),
    notes=("1. Means over seeds 1\N{EN DASH}3.", "- Trained on R&D_data | 100% of it."),
    daggers=frozenset(
        [
            *(("base", key) for key in ("fiqa", "rank")),
            ("with_isotropy (λ=0.1)", "pydocs_scipy"),
            ("with_isotropy (λ=0.1)", "fiqa"),
        ]
    ),
)
COST = Table(
    key="cost",
    caption="What it took",
    columns=(
        Column("experiment", "Experiment"),
        Column("data_set", "Data set"),
        Column("passages", "Passages"),
        Column("seconds", "Seconds"),
        Column("device", "Device"),
    ),
    rows=(
        ("base", "scifact", 5183, 61.25, "NVIDIA H100"),
        ("base", "msmarco", 8841823, None, None),
        ("with_isotropy", "scifact", 5183, 1200.5, "NVIDIA H100"),
    ),
    heading_columns=2,
)
TABLES = (RESULTS, COST)
FIGURE = Figure(
    key="spectrum-1.a_b",
    caption="Eigenvalues & 100% of_them <b>",
    x_label="Rank_$k$",
    y_label="Share, \N{GREEK SMALL LETTER LAMDA}_k",
    series=(
        Series("base", (1.0, 2.0, 3.0), (0.5, 0.25, 0.125)),
        Series("_with [iso] & <tropy>", (1.0, 3.0), (0.3, 0.0)),
    ),
    x_scale="log",
    y_scale="log",
    notes=("- Of 3 of 512 dimensions, 50% <i>",),
)
FIGURES = (FIGURE,)


def files() -> dict[str, str]:
    return {
        "figures.tex": render_latex((), FIGURES, generated_from=GENERATED_FROM),
        "figures.md": render_markdown((), FIGURES, title=TITLE, generated_from=GENERATED_FROM),
        "figures.json": render_json((), FIGURES),
        "tables.tex": render_latex(TABLES, generated_from=GENERATED_FROM),
        "tables.md": render_markdown(TABLES, title=TITLE, generated_from=GENERATED_FROM),
        "tables.csv": render_csv(TABLES),
        "tables.json": render_json(TABLES),
        "tables.html": render_html(TABLES, title=TITLE, generated_from=GENERATED_FROM),
    }


@pytest.mark.parametrize("name", files())
def test_every_byte_is_as_recorded(name):
    assert files()[name].encode() == (GOLDEN / name).read_bytes()


def test_nothing_else_is_recorded():
    of_store = {path.name for path in GOLDEN.glob("store.*")}  # test_results_store.py
    assert {path.name for path in GOLDEN.iterdir()} - of_store == set(files())


if __name__ == "__main__":
    for name, text in files().items():
        (GOLDEN / name).write_bytes(text.encode())
