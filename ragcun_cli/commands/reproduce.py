"""`ragcun reproduce`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragcun_cli import options
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.paths import CACHE_GB

if TYPE_CHECKING:
    from ragcun_cli.pipeline.reproduce.plans import Found, Reproduced


SHOWN_TABLES, MORE_TABLES = ("results",), ("results", "contrasts", "serving")
"""That a plan ends with on the terminal, without and with `--all`."""


def reproduce(
    profile: options.RequiredProfile,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="NAME",
            help="Only this, as with_isotropy:2, untouched or report; repeatable.",
        ),
    ] = None,
    until: Annotated[Stage | None, typer.Option("--until", help="The last stage to run.")] = None,
    launcher: Annotated[
        options.LauncherName,
        typer.Option(help="Runs one after the other, on all GPUs of this machine, or on Slurm."),
    ] = options.LauncherName.LOCAL,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="The GPUs to use, as 0,2; all of them by default."),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only say how far each run is.")] = False,
    cache_gb: options.CacheGigabytes = CACHE_GB,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is current and what would run.")
    ] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="With --dry-run: every stage, not only a summary.")
    ] = False,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --dry-run: for a t4, v100, a100, l4 or h100."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="With --dry-run: what an hour costs.")
    ] = None,
    all_: Annotated[
        bool,
        typer.Option("--all", help="At the end, show more tables, whole, and every model's place."),
    ] = False,
    clean: Annotated[
        bool,
        typer.Option("--clean", help="Remove caches that no run uses; --dry-run lists them."),
    ] = False,
    prerequisites: options.Prerequisites = True,
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
    from ragcun_cli.pipeline.reproduce.plans import PlanSession, Walking
    from ragcun_cli.pipeline.reproduce.session import Choice

    session = PlanSession(
        *(workspace, watcher),
        ask=asking(yes),
        prerequisites=prerequisites,
        device=device,
        cache_gb=cache_gb,
        verify=verify,
    )
    choice = Choice(profile, set_, seed, experiment, references)
    walking = Walking(
        until=until,
        only=run or (),
        dry_run=dry_run,
        status=status,
        clean=clean,
        launcher=launcher.value,
        gpus=gpus,
        gpu=gpu,
        price=price_per_hour,
        baseline_check=baseline_check,
    )
    found = session.reproduce(choice, walking)
    show(found, as_json=as_json, table=partial(_show_found, found, stages=stages, whole=all_))


def _show_found(found: "Found", *, stages: bool, whole: bool) -> None:
    """What would run of a plan, how far it is, or what it answers."""
    from ragcun_cli.console import say, show_rows
    from ragcun_cli.pipeline.reproduce.launch.jobs import Launched
    from ragcun_cli.pipeline.reproduce.status import COLUMNS, PlanStatus

    if found is None:
        return
    if isinstance(found, PlanStatus):
        show_rows(f"Plan {found.plan}", COLUMNS, [run.cells for run in found.runs])
        return
    if isinstance(found, Launched):
        say(f"submitted: {len(found.submitted)} jobs; the same command with --status shows them")
        return
    if isinstance(found, dict) and "remains" in found:
        columns = ("what", "place", "state", "MB", "minutes to make")
        show_rows("What can be made again, and what was left", columns, _in_cells(found["remains"]))
        time = f"{found['seconds'] / 60:,.1f} minutes to make what is known of it"
        say(f"unused or left over: {found['bytes'] / 1e6:,.1f} MB, {time}")
        return
    if isinstance(found, dict):
        _show_planned(found, stages=stages)
        return
    _show_reproduced(found, whole=whole)


def _show_reproduced(found: "Reproduced", *, whole: bool) -> None:
    """The answer, a table, and what to do next."""
    from ragcun_cli.commands.train import show_models
    from ragcun_cli.console import say, show_tables

    for answer in found.answers:
        say(answer)
    by_key = {table.key: table for table in found.tables}
    keys = MORE_TABLES if whole else SHOWN_TABLES
    show_tables([by_key[key] for key in keys if key in by_key], whole=whole)
    if found.models:
        show_models(found.models if whole else found.models[:1])
    if not whole and len(found.models) > 1:
        say(f"{len(found.models) - 1} more models: the same with --all")
    say(
        f"the page: {found.folder}/report.html; the same as LaTeX, Markdown, CSV and JSON beside it"
    )
    for what, command in found.next_steps:
        say(f"{what}: {command}")


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


def _show_planned(found: dict[str, Any], *, stages: bool) -> None:
    """What of a plan would run: by kind, and each stage where that is asked for."""
    from ragcun_cli.console import say, show_rows, write
    from ragcun_cli.pipeline.reproduce.dry_run import every_stage, summary

    show_rows(f"Plan {found['plan']}, sizes in GB", *summary(found))
    if stages:
        show_rows("Every stage", ("state", "stage"), every_stage(found))
    for note in found["notes"]:
        say(note)
    write("\n".join(found["scripts"]))
