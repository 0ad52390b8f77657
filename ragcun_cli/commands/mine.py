"""`ragcun mine`."""

from typing import Annotated

import typer

from ragcun_cli import options


def mine(
    profile: options.RequiredProfile,
    set_: options.Sets = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    force: options.Force = False,
    show: Annotated[
        str | None, typer.Option("--show", metavar="QUERY_ID", help="One query and its negatives.")
    ] = None,
    prerequisites: options.Prerequisites = True,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Mine BM25 and random negatives for the training queries.

    Example: ragcun mine --profile with_isotropy --set mining.depth=200

    Example: ragcun mine --profile with_isotropy --show 1185869
    """
    from ragcun_cli.commands.session import Session
    from ragcun_cli.spec.manifest import Stage

    session = Session(workspace, device=device, as_json=as_json)
    runs = session.trained_runs(profile, sets=set_, seeds=seed)
    session.run_stage(Stage.MINE, runs, force=force, prerequisites=prerequisites, yes=yes)
    if show is None:
        session.show_mining(runs)
    else:
        session.show_negatives(runs, show)
