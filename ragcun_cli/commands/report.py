"""`ragcun report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragcun_cli import options
from ragcun_cli.options import ReportFormat

if TYPE_CHECKING:
    from ragcun_cli.pipeline.reproduce.session import Report


def report(
    format_: Annotated[
        ReportFormat | None,
        typer.Option("--format", "-f", help="Without it, tables for the terminal."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file instead of stdout.")
    ] = None,
    paper: Annotated[
        Path | None, typer.Option(help="A folder for floats, macros, references, a checklist.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Of the main table: sets,average,device.")
    ] = None,
    transpose: Annotated[bool | None, typer.Option(help="In LaTeX, data sets as rows.")] = None,
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
    workspace: options.WorkspaceFolder = None,
    verify: options.Verify = False,
    as_json: options.AsJson = False,
) -> None:
    """Print the tables of what has been measured; nothing is computed anew.

    Example: ragcun report --format latex --output results.tex
    """
    from ragcun_cli.console import Watcher
    from ragcun_cli.pipeline.reproduce.session import Choice, Session

    session = Session(workspace, Watcher(), verify=verify)
    chosen = _one_format(format_, as_json=as_json)
    _show_report(
        session.report(
            Choice(profile, set_, seed, experiment, references),
            format_name=chosen,
            output=output,
            columns=columns,
            transpose=transpose,
            paper=paper,
        )
    )


def _one_format(format_: ReportFormat | None, *, as_json: bool) -> ReportFormat | None:
    if as_json and format_ not in (None, ReportFormat.JSON):
        raise typer.BadParameter(f"--json is a format too; --format {format_} is another")
    return ReportFormat.JSON if as_json else format_


def _show_report(found: "Report") -> None:
    from ragcun_cli.console import say, show_tables, write

    show_tables(found.tables)
    if found.text:
        write(found.text)
    for note in found.notes:
        say(note)
