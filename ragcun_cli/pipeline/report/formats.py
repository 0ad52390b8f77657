"""The formats a report is written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ragcun_cli.pipeline.report.html_page import render_html
from ragcun_cli.pipeline.report.json_document import render_json
from ragcun_cli.pipeline.report.latex import render_latex
from ragcun_cli.pipeline.report.markdown import render_markdown
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.report.tidy_csv import render_csv

EXTENSIONS = {"latex": "tex", "markdown": "md", "html": "html", "csv": "csv", "json": "json"}
"""Format -> file name extension."""


def render(tables: Sequence[Table], format_name: str, *, title: str) -> str:
    """All tables in one format; the same tables give the same bytes."""
    source = f"ragcun report: {title}"
    renderers: dict[str, Callable[[], str]] = {
        "latex": lambda: render_latex(tables, generated_from=source),
        "markdown": lambda: render_markdown(tables, title=title, generated_from=source),
        "html": lambda: render_html(tables, title=title, generated_from=source),
        "csv": lambda: render_csv(tables),
        "json": lambda: render_json(tables),
    }
    return renderers[format_name]()
