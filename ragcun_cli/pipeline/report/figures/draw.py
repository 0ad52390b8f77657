"""A figure drawn, as SVG or PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
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

INCHES = 4.8, 3.0
"""So that letters of 9 points are 6 where the figure fills one of two columns."""
LEGEND_LINE = 0.17
"""Inches that a line of a legend under the axes takes."""
LEGEND_LETTERS = 78
"""Letters, the line's sample among them, that stand beside each other in such a legend."""
X_LETTERS, Y_LETTERS = 60, 36
"""Letters on a line beside an axis."""
RAISED = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_INSIDE = 4
"""Series whose legend stands inside the axes."""
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
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # Type 3 fonts are refused by publishers
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # letters look alike wherever the file is opened
    "text.parse_math": False,  # a name may hold $ or _
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
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
            canvas.set_size_inches(INCHES[0], forest_height(figure))
            draw_forest(axes, figure)
            axes.set_xlabel(fill(one_line(figure.x_label), X_LETTERS))
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
    axes.set_xlabel(fill(one_line(figure.x_label), X_LETTERS))
    axes.set_ylabel(fill(one_line(figure.y_label), Y_LETTERS))
    axes.set_axisbelow(True)


def _number(value: float) -> str:
    """As in tables: commas for thousands, U+2212 for minus; beyond that, powers of ten."""
    text = f"{value:,.6g}"
    if "e" in text:
        factor, power = text.split("e")
        text = f"{factor}·10{str(int(power)).translate(RAISED)}".removeprefix("1·")
    return text.replace("-", "\N{MINUS SIGN}")


def _set_legend(canvas: Canvas, axes: Axes, labels: Sequence[str]) -> None:
    """None for one series; inside the axes where there are few, else in columns below them."""
    if len(labels) < 2:
        return
    shown = [one_line(label) for label in labels]
    place: Callable[..., Any] = axes.legend
    options: dict[str, Any] = {"loc": "best"}
    longest = max(map(len, shown))
    if len(shown) > MOST_INSIDE or longest > LEGEND_LETTERS // 3:
        columns = max(1, min(3, LEGEND_LETTERS // (longest + 6)))
        lines = -(-len(shown) // columns)
        canvas.set_size_inches(INCHES[0], INCHES[1] + LEGEND_LINE * lines)
        place, options = canvas.legend, {"loc": "outside lower center", "ncols": columns}
    # Labels that begin with an underscore are left out of legends, so they come later.
    legend = place(axes.get_lines(), [str(n) for n in range(len(shown))], handlelength=3, **options)
    for text, label in zip(legend.get_texts(), shown, strict=True):
        text.set_text(label)
