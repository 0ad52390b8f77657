"""`ragcun isotropy`."""

from ragcun_cli import options


def isotropy(
    profile: options.Profile = None,
    set_: options.Sets = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    force: options.Force = False,
    prerequisites: options.Prerequisites = True,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure how evenly embeddings fill their space, on the test texts of each run's sets.

    Example: ragcun isotropy --profile quickstart
    """
    from ragcun_cli.commands.session import Session
    from ragcun_cli.spec.manifest import Stage

    session = Session(workspace, device=device, as_json=as_json)
    runs = session.runs(profile, sets=set_, seeds=seed)
    session.run_stage(Stage.ISOTROPY, runs, force=force, prerequisites=prerequisites, yes=yes)
    session.show_tables(runs, only="isotropy")
