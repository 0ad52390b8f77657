"""`ragcun reproduce`."""

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
    stages: Annotated[
        bool, typer.Option("--stages", help="With --dry-run: every stage, not only a summary.")
    ] = False,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --dry-run: on a t4, v100, a100, l4 or h100."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="With --dry-run: of such a machine.")
    ] = None,
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
    asked = {"gpu": gpu, "price": price_per_hour}
    found = session.reproduce(choice, asked, dry_run=dry_run, baseline_check=baseline_check)
    show(found, as_json=as_json, table=partial(_show_found, found, stages=stages))


def _show_found(found: "Reproduced | dict[str, Any]", *, stages: bool) -> None:
    """What would run of a plan, or what it answers."""
    from ragcun_cli.commands.train import show_models
    from ragcun_cli.console import say, show_tables
    from ragcun_cli.pipeline.report.formats.formats import EXTENSIONS

    others = (f"report.{extension}" for extension in EXTENSIONS.values() if extension != "html")
    if isinstance(found, dict):
        _show_planned(found, stages=stages)
        return
    for answer in found.answers:
        say(answer)
    by_key = {table.key: table for table in found.tables}
    show_tables([by_key[key] for key in SHOWN_TABLES if key in by_key])
    show_models(found.models)
    say(f"the page: {found.folder}/report.html; beside it {', '.join(others)}")
    say("all tables: ragcun report --all")


def _show_planned(found: dict[str, Any], *, stages: bool) -> None:
    """What of a plan would run: by kind, and each stage where that is asked for."""
    from ragcun_cli.console import say, show_rows
    from ragcun_cli.pipeline.reproduce.dry_run import every_stage, summary

    show_rows(f"Plan {found['plan']}, sizes in GB", *summary(found))
    if stages:
        show_rows("Every stage", ("state", "stage"), every_stage(found))
    for note in found["notes"]:
        say(note)
