"""Figures: what is drawn, and how each format has it."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure as Canvas

from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.figures import draw as plots
from ragcun_cli.pipeline.report.figures.draw import draw, inline_svg
from ragcun_cli.pipeline.report.figures.mining import Mining, mining_figures
from ragcun_cli.pipeline.report.formats.formats import render, write_figures
from ragcun_cli.pipeline.report.formats.html_page import render_html

SIGNATURES = {"svg": b"<?xml", "pdf": b"%PDF"}


def figure(count=2, **changes):
    lines = tuple(Series(f"line {n}", (1.0, 2.0, 4.0), (n, n + 1.0, 0.0)) for n in range(count))
    given = {"key": "sizes", "caption": "Sizes", "x_label": "x", "y_label": "y", "series": lines}
    return Figure(**(given | changes))


@pytest.mark.parametrize("kind", ["line", "steps"])
@pytest.mark.parametrize("name", SIGNATURES)
def test_the_same_figure_gives_the_same_bytes(name, kind):
    drawn = draw(figure(kind=kind), name)
    assert drawn.startswith(SIGNATURES[name])
    assert draw(figure(kind=kind), name) == drawn
    mpl.rcParams["lines.linewidth"] = 9  # as a person's own settings may have it
    try:
        assert draw(figure(kind=kind), name) == drawn
    finally:
        mpl.rcdefaults()
    assert draw(figure(kind=kind, series=figure(3).series), name) != drawn


def test_another_process_gives_the_same_bytes():
    program = (
        "import sys; from ragcun_cli.pipeline.report.figure import Figure, Series; "
        "from ragcun_cli.pipeline.report.figures.draw import draw; "
        "a = Figure('k', 'c', 'x', 'y', (Series('s', (1.0, 2.0), (3.0, 4.0)),)); "
        "[sys.stdout.buffer.write(draw(a, name)) for name in ('svg', 'pdf')]"
    )
    written = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    same = Figure("k", "c", "x", "y", (Series("s", (1.0, 2.0), (3.0, 4.0)),))
    assert written.stdout == b"".join(draw(same, name) for name in SIGNATURES)


def axes_of(monkeypatch, shown):
    """What matplotlib was given to save, and saved."""
    kept = []
    save = Canvas.savefig

    def watched(canvas, *arguments, **options):
        kept.append(canvas)
        save(canvas, *arguments, **options)

    monkeypatch.setattr(Canvas, "savefig", watched)
    draw(shown, "svg")
    monkeypatch.undo()
    ((axes,),) = (canvas.axes for canvas in kept)
    return axes


def test_no_two_lines_of_28_look_alike(monkeypatch):
    lines = axes_of(monkeypatch, figure(28)).get_lines()
    looks = [(line.get_color(), str(line._unscaled_dash_pattern[1])) for line in lines]
    assert len(set(looks)) == len(looks) == 28


def legend_of(axes):
    (legend,) = axes.figure.legends
    return legend


def test_a_legend_stands_below_the_axes_where_there_are_several_lines(monkeypatch):
    assert not axes_of(monkeypatch, figure(1)).figure.legends
    for count in (2, 5):
        axes = axes_of(monkeypatch, figure(count))
        assert axes.get_legend() is None
        texts = [text.get_text() for text in legend_of(axes).get_texts()]
        assert texts == [f"line {n}" for n in range(count)]


@pytest.mark.parametrize("count", [2, 3, 7, 12])
@pytest.mark.parametrize("name", ["i" * 30, "W" * 30, "a_name of words " * 9, "W" * 200])
def test_nothing_of_a_legend_or_a_label_is_cut(monkeypatch, count, name):
    series = tuple(Series(f"{name} {n}", (1.0, 2.0), (n, 1.0)) for n in range(count))
    axes = axes_of(monkeypatch, figure(series=series, x_label=name))
    canvas = axes.figure
    canvas.draw_without_rendering()
    room = canvas.bbox
    for artist in (*legend_of(axes).get_texts(), axes.xaxis.label, legend_of(axes)):
        box = artist.get_window_extent()
        assert room.x0 <= box.x0 < box.x1 <= room.x1
        assert room.y0 <= box.y0 < box.y1 <= room.y1
    texts = ["".join(text.get_text().split()) for text in legend_of(axes).get_texts()]
    assert texts == ["".join(f"{name}{n}".split()) for n in range(count)]
    upright = axes_of(monkeypatch, figure(y_label=name)).yaxis.label
    assert upright.get_window_extent().height <= room.height


def test_letters_have_7_points_in_a_column_of_a_paper():
    column = 221 / 72.27 / plots.INCHES[0]  # of article on A4
    sizes = [value for key, value in plots.SETTINGS.items() if key.endswith("size")]
    assert len(sizes) >= 5
    assert all(size * column >= 7 for size in sizes if size > plots.SETTINGS["lines.markersize"])


def test_steps_hold_from_their_x_to_the_next(monkeypatch):
    (line,) = axes_of(monkeypatch, figure(1, kind="steps")).get_lines()
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xydata().tolist() == [[1, 0], [2, 1], [4, 0]]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1000.0, "1,000"), (0.5, "0.5"), (-2.0, "\N{MINUS SIGN}2"), (1e-6, "10⁻⁶"), (2e9, "2·10⁹")],
)
def test_numbers_on_axes_read_as_in_tables(value, text):
    assert plots._number(value) == text


@pytest.mark.parametrize("name", ["$x^2$", "_hidden", "a & <b>", "100% \\alpha", "-- } {"])
def test_any_label_is_drawn_as_it_reads(monkeypatch, name):
    series = (Series(name, (1.0, 2.0), (1.0, 2.0)), Series("b", (1.0, 2.0), (2.0, 1.0)))
    shown = figure(series=series, x_label=name, y_label=name)
    axes = axes_of(monkeypatch, shown)
    texts = [*legend_of(axes).get_texts(), axes.xaxis.label, axes.yaxis.label]
    assert [text.get_text() for text in texts] == [name, "b", name, name]
    assert not any(text.get_parse_math() for text in texts)
    ElementTree.fromstring(draw(shown, "svg"))


def test_a_line_without_positive_values_is_drawn_on_a_logarithmic_axis():
    zeros = (Series("a", (0.0, 1.0), (0.0, 0.0)),)
    for name in SIGNATURES:
        assert draw(figure(series=zeros, x_scale="log", y_scale="log"), name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "../a"}, "cannot name a file"),
        ({"series": ()}, "do not tell its lines apart"),
        ({"series": (Series("a", (1.0,), (1.0,)),) * 2}, "do not tell its lines apart"),
    ],
)
def test_a_figure_that_cannot_be_shown_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        figure(**change)


# Formats


def test_a_page_has_the_drawings_in_it_and_loads_nothing():
    two = [figure(), figure(key="more", caption='"<b>&', notes=("<i>",))]
    page = render_html([], two, title="T", generated_from="plan")
    assert page.count("<svg") == 2
    assert not any(mark in page for mark in ("http:", "https:", "<script", "<link", "src="))
    assert all(reference in page for reference in ('id="sizes"', 'id="more"', "&lt;i&gt;"))
    assert "<b>" not in page
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names)) > 20
    references = re.findall(r'(?:href="#|url\(#)([^")]*)', page)
    assert len(references) > 20
    assert set(references) <= set(names)
    assert 'aria-label="Sizes. y over x: line 0, line 1"' in page


def test_the_drawing_of_a_page_is_well_formed():
    assert ElementTree.fromstring(inline_svg(figure())).tag == "svg"


@pytest.mark.parametrize(("name", "kind"), [("latex", "pdf"), ("markdown", "svg")])
def test_the_files_that_a_text_names_are_those_that_are_written(tmp_path, name, kind):
    figures = [figure(), figure(key="more.2_b")]
    text = render([], figures, name, title="T")
    files = write_figures(figures, tmp_path, [kind])
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        f"figures/{key}.{kind}" for key in ("sizes", "more.2_b")
    ]
    assert all(file.read_bytes().startswith(SIGNATURES[kind]) for file in files)
    named = re.findall(r"[{(](figures/[^)}]*)", text)
    assert named == [file.relative_to(tmp_path).as_posix() for file in files]


def test_json_has_the_numbers_that_are_drawn():
    (found,) = json.loads(render([], [figure()], "json", title="T"))["figures"]
    assert found["series"][1] == {"label": "line 1", "x": [1.0, 2.0, 4.0], "y": [1, 2.0, 0.0]}


def test_csv_is_of_tables_alone():
    assert render([], [figure()], "csv", title="T") == render([], [], "csv", title="T")


# Of minings


def summary(**changes):
    return {
        "queries": 4,
        "positive_within": {"1": 1, "2": 3},
        "score_histogram": {
            "edges": [0.0, 1.0, 2.0],
            "positive": [1, 3],
            "hard": [1, 1],
            "random": [0, 0],
        },
        "dev": None,
    } | changes


def test_a_mining_is_shown_by_the_shares_of_its_scores_and_ranks():
    dev = summary(queries=2, positive_within={"1": 2, "2": 2})
    minings = [
        Mining("sea", 1, "bm25", summary(dev=dev)),
        Mining("lake", 1, "dense", summary()),
    ]
    first, second, ranks = mining_figures(minings)
    assert [f.key for f in (first, second, ranks)] == [
        "mining-scores",
        "mining-scores-2",
        "mining-ranks",
    ]
    assert first.x_label == "BM25 score"
    assert second.x_label == "Score of the dense model"
    assert {s.label: s.y for s in first.series} == {
        "positives": (0.25, 0.75, 0.0),
        "hard negatives": (0.5, 0.5, 0.0),
    }
    assert first.series[0].x == (0.0, 1.0, 2.0)
    assert {s.label: (s.x, s.y) for s in ranks.series} == {
        "sea": ((1.0, 2.0), (0.25, 0.75)),
        "sea, dev": ((1.0, 2.0), (1.0, 1.0)),
        "lake": ((1.0, 2.0), (0.25, 0.75)),
    }


def test_no_mining_gives_no_figure():
    assert mining_figures([]) == []
