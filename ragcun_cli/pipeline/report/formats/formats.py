"""The formats a report is written in, and the files of its figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragcun_cli.pipeline.report.background import Background
from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.formats.html_page import render_html
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.formats.latex import render_latex
from ragcun_cli.pipeline.report.formats.markdown import render_markdown
from ragcun_cli.pipeline.report.formats.tidy_csv import render_csv
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.spec.paths import FIGURES

if TYPE_CHECKING:
    from ragcun_cli.pipeline.report.figures.draw import FigureFormat

EXTENSIONS = {"latex": "tex", "markdown": "md", "html": "html", "csv": "csv", "json": "json"}
"""Format -> file name extension."""

FIGURE_FILES: dict[str, FigureFormat] = {"latex": "pdf", "markdown": "svg"}
"""Format -> what the figures beside it have to be; the others name no files."""


def render(
    tables: Sequence[Table],
    figures: Sequence[Drawing],
    format_name: str,
    *,
    title: str,
    background: Background | None = None,
    transpose: bool | None = None,
) -> str:
    """All tables and figures in one format; the same ones give the same bytes.

    LaTeX and Markdown name files of the figures in a folder ``figures`` beside them; HTML has the
    drawings in it, and the background, and JSON the numbers. CSV is of tables alone.
    Whether data sets are rows is asked of LaTeX alone, which decides by their number.
    """
    source = f"ragcun report: {title}"
    renderers: dict[str, Callable[[], str]] = {
        "latex": lambda: render_latex(tables, figures, transpose=transpose, generated_from=source),
        "markdown": lambda: render_markdown(tables, figures, title=title, generated_from=source),
        "html": lambda: render_html(
            tables, figures, title=title, generated_from=source, background=background
        ),
        "csv": lambda: render_csv(tables),
        "json": lambda: render_json(tables, figures),
    }
    return renderers[format_name]()


def write_figures(
    figures: Sequence[Drawing], folder: Path, formats: Collection[FigureFormat]
) -> list[Path]:
    """The files of all figures, in a folder ``figures`` inside this one, made if need be."""
    from ragcun_cli.pipeline.report.figures.draw import draw

    files = []
    for figure in figures:
        for name in formats:
            file = folder / FIGURES / f"{figure.key}.{name}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(draw(figure, name))
            files.append(file)
    return files
