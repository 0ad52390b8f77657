"""`ragcun reproduce`."""

from typing import Annotated

import typer

from ragcun_cli import options


def reproduce(
    profile: options.RequiredProfile,
    set_: options.Sets = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is current and what would run.")
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
    as_json: options.AsJson = False,
) -> None:
    """Walk the whole road of a plan: data, negatives, training, evaluation, isotropy, report.

    What is current is not done again, and what was cut short goes on. An experiment is a plan of
    itself and the untouched base. Where the untouched base has published scores on scifact,
    nfcorpus, arguana, fiqa or trec-covid, and they do not come back within 0.005, it stops with
    exit code 3 before anything is trained.

    Example: ragcun reproduce --profile quickstart
    """
    from ragcun_cli.commands.session import Session

    session = Session(workspace, device=device, as_json=as_json, verify=verify)
    plan = session.plan(profile, sets=set_, seeds=seed)
    if dry_run:
        session.show_plan(plan)
    else:
        session.reproduce(plan, baseline_check=baseline_check, yes=yes)
