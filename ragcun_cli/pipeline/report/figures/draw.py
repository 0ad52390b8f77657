"""A figure drawn, as SVG or PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import cycle, islice
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from ragcun_cli.pipeline.report.figure import Drawing, Figure, Forest, Series
from ragcun_cli.pipeline.report.figures.forest import draw_forest, forest_height
from ragcun_cli.pipeline.report.table import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FigureFormat = Literal["svg", "pdf"]

INCHES = 4.8, 2.9
"""So that letters of 11 points are 7 where the figure fills one of two columns."""
LABEL_INCHES = 1.8
"""Of the labels beside a forest plot, beyond which it grows wider."""
LEGEND_LINE = 0.22
"""Inches that a line of a legend under the axes takes."""
SAMPLE_INCHES = 0.55
"""Inches that a series takes in a legend beside its label."""
RAISED = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_MARKED = 25
"""Points of a line that are marked one by one."""

# Okabe and Ito's palette without its yellow, which is too light on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Seven colours and four dashes: no two of 28 lines look alike.
STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1, 2)))
MARKERS = ("o", "s", "^")

SETTINGS: dict[str, Any] = {
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.columnspacing": 1.0,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # Type 3 fonts are refused by publishers
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # letters look alike wherever the file is opened
    "text.parse_math": False,  # a name may hold $ or _
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
}


def draw(figure: Drawing, format: FigureFormat) -> bytes:
    """The drawing without its caption and notes; the same bytes for the same figure.

    Lines differ in colour, which people with any colour vision tell apart, and in dashes. Their
    order is that of the series. A value of 0 or less lies below a logarithmic axis; where all do,
    the axis is linear.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the person's own matplotlibrc says
        mpl.rcParams.update(SETTINGS | {"svg.hashsalt": figure.key})
        canvas = Canvas(figsize=INCHES)
        FigureCanvasAgg(canvas)
        axes = canvas.add_subplot()
        if isinstance(figure, Forest):
            longer = max(map(_inches, figure.lines)) - LABEL_INCHES
            canvas.set_size_inches(INCHES[0] + max(0.0, longer), forest_height(figure))
            draw_forest(axes, figure)
        else:
            for number, series in enumerate(figure.series):
                _add_line(axes, series, number, kind=figure.kind)
            _set_axes(axes, figure)
            _set_legend(canvas, axes, figure.lines)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format=format, metadata=_undated(format))
    return buffer.getvalue()


def inline_svg(figure: Drawing) -> str:
    """The drawing as an element of a web page, with names of its own for its parts."""
    svg = draw(figure, "svg").decode()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{figure.key}-', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{figure.key}-', svg)
    return re.sub(r"url\(#", f"url(#{figure.key}-", svg).strip()


def _undated(format: FigureFormat) -> dict[str, None]:
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]


def _add_line(axes: Axes, series: Series, number: int, *, kind: str) -> None:
    styles = islice(cycle(STYLES), number, None)
    markers = islice(cycle(MARKERS), number, None)
    is_marked = kind == "points" or (kind == "line" and len(series.x) <= MOST_MARKED)
    axes.plot(
        series.x,
        series.y,
        color=COLOURS[number % len(COLOURS)],
        linestyle="none" if kind == "points" else next(styles),
        marker=next(markers) if is_marked else None,
        drawstyle="steps-post" if kind == "steps" else None,
    )


def _set_axes(axes: Axes, figure: Figure) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for scale, axis, set_scale, points in (
        (figure.x_scale, axes.xaxis, axes.set_xscale, [x for s in figure.series for x in s.x]),
        (figure.y_scale, axes.yaxis, axes.set_yscale, [y for s in figure.series for y in s.y]),
    ):
        above = [point for point in points if point > 0]
        if scale == "log" and above:
            set_scale("log", nonpositive="clip")
            few = max(above) / min(above) < 300
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, place: _number(value)))
    axes.set_xlabel(_lines(figure.x_label, 0.8 * INCHES[0]))
    axes.set_ylabel(_lines(figure.y_label, 0.75 * INCHES[1]))
    axes.set_axisbelow(True)


def _number(value: float) -> str:
    """As in tables: commas for thousands, U+2212 for minus; beyond that, powers of ten."""
    text = f"{value:,.6g}"
    if "e" in text:
        factor, power = text.split("e")
        text = f"{factor}·10{str(int(power)).translate(RAISED)}".removeprefix("1·")
    return text.replace("-", "\N{MINUS SIGN}")


def _lines(text: str, inches: float) -> str:
    """The text in lines that are no wider."""
    text = one_line(text)
    for letters in range(len(text), 1, -1):
        lines = fill(text, letters)
        if max(map(_inches, lines.split("\n"))) <= inches:
            return lines
    return text


def _inches(text: str) -> float:
    """How wide a text is drawn."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=SETTINGS["font.family"], size=SETTINGS["legend.fontsize"])
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def _set_legend(canvas: Canvas, axes: Axes, labels: Sequence[str]) -> None:
    """None for one series; else below the axes, where it hides nothing."""
    if len(labels) < 2:
        return
    shown = [_lines(label, INCHES[0] - SAMPLE_INCHES) for label in labels]
    longest = max(_inches(line) for label in shown for line in label.split("\n"))
    columns = max(1, min(3, int(INCHES[0] / (longest + SAMPLE_INCHES))))
    lines = -(-len(shown) // columns) * max(label.count("\n") + 1 for label in shown)
    canvas.set_size_inches(INCHES[0], INCHES[1] + LEGEND_LINE * lines)
    # Labels that begin with an underscore are left out of legends, so they come later.
    numbers = [str(number) for number in range(len(shown))]
    legend = canvas.legend(
        *(axes.get_lines(), numbers),
        loc="outside lower center",
        ncols=columns,
    )
    for text, label in zip(legend.get_texts(), shown, strict=True):
        text.set_text(label)
