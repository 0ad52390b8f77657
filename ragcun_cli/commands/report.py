"""`ragcun report`."""

from collections.abc import Callable
from functools import partial
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
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
    workspace: options.WorkspaceFolder = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="USER/NAME",
            help="Publish one trained model with its card in this repository of the Hugging Face "
            "Hub, which is private where it is new; --experiment and --seed say which model.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of --push: show files and card, and send nothing.")
    ] = False,
    verify: options.Verify = False,
    as_json: options.AsJson = False,
) -> None:
    """Print the tables of what has been measured; nothing is computed anew.

    With --push, publish a model instead, with its card: the token is that of `hf auth login` or
    HF_TOKEN. A repository that is there stays as private or public as it is.

    Example: ragcun report --format latex --output results.tex

    Example: ragcun report -p quickstart --push me/my-model --experiment with_isotropy --seed 1
    """
    from ragcun_cli.console import Watcher
    from ragcun_cli.pipeline.reproduce.session import Choice, Session

    session = Session(workspace, Watcher(), verify=verify)
    chosen = _one_format(format_, as_json=as_json)
    choice = Choice(profile, set_, seed, experiment, references)
    tables = partial(session.report, choice, format_name=chosen, output=output)
    pushed = partial(session.push, choice, dry_run=dry_run)
    _show_report(_made(push, pushed, tables, of_push=dry_run, of_tables=bool(chosen or output)))


def _made(
    repo: str | None,
    pushed: "Callable[[str], Report]",
    tables: "Callable[[], Report]",
    *,
    of_push: bool,
    of_tables: bool,
) -> "Report":
    if repo is None and of_push:
        raise typer.BadParameter("--dry-run is of --push USER/NAME")
    if repo is not None and of_tables:
        raise typer.BadParameter("--push publishes a model: leave --format and --output out")
    return tables() if repo is None else pushed(repo)


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
