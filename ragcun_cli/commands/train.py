"""`ragcun train`."""

from ragcun_cli import options


def train(
    profile: options.RequiredProfile,
    set_: options.Sets = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    force: options.Force = False,
    prerequisites: options.Prerequisites = True,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune the encoder of an experiment, or of every experiment of a plan.

    Example: ragcun train --profile with_isotropy --set training.batch_size=32
    """
    from ragcun_cli.commands.session import Session
    from ragcun_cli.spec.manifest import Stage

    session = Session(workspace, device=device, as_json=as_json)
    runs = session.trained_runs(profile, sets=set_, seeds=seed)
    session.run_stage(Stage.TRAIN, runs, force=force, prerequisites=prerequisites, yes=yes)
    session.show_training(runs)
