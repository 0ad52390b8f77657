"""`ragcun report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragcun_cli import options
from ragcun_cli.options import ReportFormat

if TYPE_CHECKING:
    from ragcun_cli.pipeline.reproduce.reports import Report

_SHOWN, _PUBLISHED = "What is shown", "For a paper and for the Hub"
_CAPSULE = "For reviewers"

LONG_TABLES = ("isotropy", "calibration")
"""Tables that a terminal shows with `--all` alone."""


def report(
    format_: Annotated[
        ReportFormat | None,
        typer.Option(
            "--format", "-f", help="Write this format instead of tables for the terminal."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")
    ] = None,
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
    all_runs: Annotated[
        bool, typer.Option("--all-runs", help="Report on every finished run, plan by plan.")
    ] = False,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="NAMES",
            help="Show only these rows, in this order: untouched,with_isotropy.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--names",
            metavar="ROW=NAME",
            help="Show a row under the name that a paper has for it; repeatable.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Show these columns of the results: sets,average,device. The word sets stands for "
            "all data sets.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    transpose: Annotated[
        bool | None,
        typer.Option(
            help="In LaTeX, make data sets the rows of the results, or their columns.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="Add the contrasts within groups of queries: by length, or by a column of the "
            "queries' metadata.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Add a row of scores that others published; repeatable.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    all_: Annotated[
        bool,
        typer.Option(
            "--all",
            help="On the terminal, show every table whole, those of isotropy and calibration, too.",
            rich_help_panel=_SHOWN,
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 4 unless every claim of the plan is shown.",
            rich_help_panel=_SHOWN,
        ),
    ] = False,
    review: Annotated[
        bool, typer.Option("--review", help="What a reviewer asks; exit code 4 while it is open.")
    ] = False,
    paper: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write tables, figures, macros of all numbers, references and a checklist.",
            rich_help_panel=_PUBLISHED,
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="USER/NAME",
            help="Publish one trained model with its card in this repository of the Hugging Face "
            "Hub, which is private where it is new; --experiment and --seed say which model.",
            rich_help_panel=_PUBLISHED,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="With --push, show the files and the card, and send nothing.",
            rich_help_panel=_PUBLISHED,
        ),
    ] = False,
    capsule: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            help="Write what the numbers of a plan rest on, for others to check: rankings, scores, "
            "judgements, records; no texts, no weights.",
            rich_help_panel=_CAPSULE,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            help="Compute the scores and tables of such a file again; no workspace is needed.",
            rich_help_panel=_CAPSULE,
        ),
    ] = None,
    workspace: options.WorkspaceFolder = None,
    verify: options.Verify = False,
    as_json: options.AsJson = False,
) -> None:
    """Print the tables of what has been measured; nothing is computed anew.

    Without a profile the report is of the plan that was reproduced last, and of every finished run
    where none was. With --push, publish a model instead, with its card: the token is that of
    `hf auth login` or HF_TOKEN. A repository that is there stays as private or public as it is.
    --check exits with 0 where all is equal, 4 where something differs, 2 where nothing could be
    compared.

    Example: ragcun report --format html --output report.html

    Example: ragcun report --paper paper --names with_isotropy=Ours

    Example: ragcun report -p quickstart --capsule quickstart.zip

    Example: ragcun report --check quickstart.zip

    Example: ragcun report -p quickstart --push me/my-model --experiment with_isotropy --seed 1
    """
    from ragcun_cli.console import Watcher
    from ragcun_cli.pipeline.reproduce.reports import Layout, ReportSession
    from ragcun_cli.pipeline.reproduce.session import Choice

    shown = (all_runs, _listed(rows), _named(names), strict, published or ())
    layout = Layout(
        *shown,
        columns=columns,
        transpose=transpose,
        paper=paper,
        by=by,
        push=push,
        dry_run=dry_run,
        review=review,
        capsule=capsule,
        check=check,
    )
    chosen = _one_format(format_, as_json=as_json)
    of_tables = [chosen, output, all_runs, rows, names, columns, transpose, by, published]
    _refuse_beside(push, paper, dry_run=dry_run, of_tables=[*of_tables, all_, strict, review])
    others = [capsule and chosen, format_, *of_tables[1:], all_, strict, push, paper, review]
    _refuse_beside_capsule(capsule, check, others=others)
    session = ReportSession(workspace, Watcher(), verify=verify)
    choice = Choice(profile, set_, seed, experiment, references)
    _show_report(session.report(choice, layout, format_name=chosen, output=output), everything=all_)
    session.require_claims()
    session.require_answers()
    session.require_equal()


def _refuse_beside(
    push: str | None, paper: Path | None, *, dry_run: bool, of_tables: Sequence[object]
) -> None:
    if paper is not None and (
        push is not None or of_tables[-1] or any(given is not None for given in of_tables[:2])
    ):
        raise typer.BadParameter("--paper names its files: no --format, --output, --review, --push")
    if push is None and dry_run:
        raise typer.BadParameter("--dry-run is of --push USER/NAME")
    if push is not None and any(given not in (None, False, []) for given in of_tables):
        raise typer.BadParameter("--push publishes a model: leave the options of tables out")


def _refuse_beside_capsule(
    capsule: Path | None, check: Path | None, *, others: Sequence[object]
) -> None:
    alone = [one for one in (capsule, check) if one is not None]
    if len(alone) > 1 or (alone and any(given not in (None, False, []) for given in others)):
        raise typer.BadParameter("--capsule FILE.zip or --check FILE.zip: leave other forms out")


def _listed(rows: str | None) -> list[str]:
    if rows is None:
        return []
    if not (found := [name.strip() for name in rows.split(",") if name.strip()]):
        raise typer.BadParameter("--rows names no row")
    return found


def _named(names: Sequence[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in names or ()]
    if bad := [row + equals for row, equals, name in pairs if not (row and name.strip())]:
        raise typer.BadParameter(f"--names takes ROW=NAME, got '{bad[0]}'")
    return {row: name for row, _, name in pairs}


def _one_format(format_: ReportFormat | None, *, as_json: bool) -> ReportFormat | None:
    if as_json and format_ not in (None, ReportFormat.JSON):
        raise typer.BadParameter(f"--json is a format too; --format {format_} is another")
    return ReportFormat.JSON if as_json else format_


def _show_report(found: "Report", *, everything: bool) -> None:
    from ragcun_cli.console import say, show_tables, write

    shown = [t for t in found.tables if everything or t.key.partition("-")[0] not in LONG_TABLES]
    show_tables(shown, whole=everything)
    if hidden := len(found.tables) - len(shown):
        say(f"{hidden} long tables of isotropy and calibration are left out: --all shows them")
    if found.text:
        write(found.text)
    for note in found.notes:
        say(note)
