"""`ragcun eval`."""

from ragcun_cli import options


def evaluate(
    datasets: options.Datasets = None,
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
    """Score models on test sets: those of a profile, or every finished run of the workspace.

    Run files and per-query scores are kept. `all`, the default, means the sets of each run's plan.

    Example: ragcun eval --datasets all
    """
    from ragcun_cli.commands.session import Session, split_names
    from ragcun_cli.spec.manifest import Stage

    session = Session(workspace, device=device, as_json=as_json)
    runs = session.runs(profile, sets=set_, seeds=seed)
    names = split_names(datasets)
    session.run_stage(Stage.EVAL, runs, names, force=force, prerequisites=prerequisites, yes=yes)
    session.show_evaluations(runs, names)
