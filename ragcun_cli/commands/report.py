"""`ragcun report`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ragcun_cli import options


class Format(StrEnum):
    """What a report can be written in."""

    LATEX = "latex"
    MARKDOWN = "markdown"
    HTML = "html"
    CSV = "csv"
    JSON = "json"


def report(
    format_: Annotated[
        Format | None, typer.Option("--format", "-f", help="Without it, tables for the terminal.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file instead of stdout.")
    ] = None,
    profile: options.Profile = None,
    set_: options.Sets = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    as_json: options.AsJson = False,
) -> None:
    """Print the tables of what has been measured; nothing is computed anew.

    Example: ragcun report --format latex --output results.tex
    """
    from ragcun_cli.commands.session import Session

    session = Session(workspace, as_json=as_json)
    runs = session.runs(profile, sets=set_, seeds=seed)
    if as_json and format_ not in (None, Format.JSON):
        raise typer.BadParameter(f"--json is a format too; --format {format_.value} is another")
    if as_json:
        format_ = Format.JSON
    session.write_report(runs, format_.value if format_ else None, output, title=profile)
