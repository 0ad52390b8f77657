"""`ragcun reproduce`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragcun_cli import options

if TYPE_CHECKING:
    from ragcun_cli.pipeline.reproduce.plans import Reproduced


SHOWN_TABLES = ("results", "contrasts")
"""That a plan ends with on the terminal."""


def reproduce(
    profile: options.RequiredProfile,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is current and what would run.")
    ] = False,
    clean: Annotated[
        bool,
        typer.Option("--clean", help="Remove caches that no run uses; --dry-run lists them."),
    ] = False,
    verify: options.Verify = False,
    baseline_check: Annotated[
        bool,
        typer.Option(
            "--baseline-check/--skip-baseline-check",
            help="Hold the untouched base against published scores before training.",
        ),
    ] = True,
    yes: options.Yes = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Walk the whole road of a plan: data, negatives, training, evaluation, isotropy, report.

    What is current is not done again, and what was cut short goes on. An experiment is a plan of
    itself and the untouched base. Where the untouched base has published scores on scifact,
    nfcorpus, arguana, fiqa or trec-covid, and they do not come back within 0.005, it stops with
    exit code 3 before anything is trained.

    Example: ragcun reproduce --profile quickstart
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher(f"reproduce {profile}", verbose=verbose)
    from ragcun_cli.pipeline.reproduce.plans import PlanSession
    from ragcun_cli.pipeline.reproduce.session import Choice

    session = PlanSession(workspace, watcher, ask=asking(yes), device=device, verify=verify)
    choice = Choice(profile, set_, seed, experiment, references)
    found = session.reproduce(choice, dry_run=dry_run, clean=clean, baseline_check=baseline_check)
    show(found, as_json=as_json, table=partial(_show_found, found))


def _show_found(found: "Reproduced | dict[str, Any]") -> None:
    """What would run of a plan, or what it answers."""
    from ragcun_cli.commands.train import show_models
    from ragcun_cli.console import say, show_rows, show_tables
    from ragcun_cli.pipeline.report.formats.formats import EXTENSIONS

    others = (f"report.{extension}" for extension in EXTENSIONS.values() if extension != "html")
    if isinstance(found, dict) and "remains" in found:
        columns = ("what", "place", "state", "MB", "minutes to make")
        show_rows("What can be made again, and what was left", columns, _in_cells(found["remains"]))
        time = f"{found['seconds'] / 60:,.1f} minutes to make what is known of it"
        say(f"unused or left over: {found['bytes'] / 1e6:,.1f} MB, {time}")
        return
    if isinstance(found, dict):
        keys = ("what", "state", "why", "estimate")
        rows = [tuple(one[key] or "" for key in keys) for one in found["stages"]]
        show_rows(f"Plan {found['plan']}", ("stage", *keys[1:]), rows)
        current = sum(row[1] == "current" for row in rows)
        pending = len(rows) - current
        say(f"{current} stages current, {pending} to run, {found['total']} in all")
        return
    for answer in found.answers:
        say(answer)
    by_key = {table.key: table for table in found.tables}
    show_tables([by_key[key] for key in SHOWN_TABLES if key in by_key])
    show_models(found.models)
    say(f"the page: {found.folder}/report.html; beside it {', '.join(others)}")
    say("all tables: ragcun report --all")


def _in_cells(remains: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Of each what and where it is, what becomes of it, megabytes and minutes."""
    return [
        (
            *(one[key] for key in ("what", "place", "state")),
            f"{one['bytes'] / 1e6:,.1f}",
            "unknown" if one["seconds"] is None else f"{one['seconds'] / 60:,.1f}",
        )
        for one in remains
    ]
