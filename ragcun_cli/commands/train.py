"""`ragcun train`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from ragcun_cli import options
from ragcun_cli.spec.paths import CACHE_GB


def train(
    profile: options.RequiredProfile,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    cache_gb: options.CacheGigabytes = CACHE_GB,
    force: options.Force = False,
    prerequisites: options.Prerequisites = True,
    verify: options.Verify = False,
    yes: options.Yes = False,
    verbose: options.Verbose = False,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune the encoder of an experiment, or of every experiment of a plan.

    Example: ragcun train --profile with_isotropy --set training.batch_size=32
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher(f"train {profile}", verbose=verbose)
    from ragcun_cli.pipeline.reproduce.session import Choice, Session

    session = Session(
        *(workspace, watcher),
        ask=asking(yes),
        force=force,
        prerequisites=prerequisites,
        device=device,
        cache_gb=cache_gb,
        verify=verify,
    )
    trained = session.train(Choice(profile, set_, seed, experiment))
    show(trained, as_json=as_json, table=partial(_show_trained, trained))


def _show_trained(trained: Sequence[dict[str, Any]]) -> None:
    """What each training cost, which model of it was kept, and how to load that."""
    from ragcun_cli.console import say, show_rows

    labels = [f"{one['run']}, seed {one['seed']}" for one in trained]
    rows = [
        (
            label,
            f"{one['steps']:,}",
            f"{one['trainable_parameters']:,}",
            f"{one['training_seconds'] / 60:.1f}",
            f"{one['examples_per_second']:.1f}",
        )
        for label, one in zip(labels, trained, strict=True)
    ]
    show_rows("Trained", ("run", "steps", "trainable", "minutes", "examples/s"), rows)
    for label, one in zip(labels, trained, strict=True):
        say(f"{label}: kept {one['kept']}")
    show_models([(label, one["model"]) for label, one in zip(labels, trained, strict=True)])


def show_models(models: Sequence[tuple[str, object]]) -> None:
    """Where models lie, by label, and how to load one."""
    from ragcun_cli.console import say
    from ragcun_cli.pipeline.training.model_card import loading_lines

    for label, folder in models:
        say(f"{label}: {folder}")
    say("Load one with:\n" + loading_lines(str(models[0][1])))
