"""`ragcun isotropy`."""

from functools import partial
from typing import Annotated

import typer

from ragcun_cli import options
from ragcun_cli.spec.paths import CACHE_GB


def isotropy(
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
    what_if: Annotated[
        str | None,
        typer.Option(
            "--what-if", metavar="MODEL", help="Score free changes of a model's embeddings."
        ),
    ] = None,
    datasets: options.Datasets = None,
    dev: Annotated[
        list[str] | None,
        typer.Option("--dev", metavar="NAMES", help="Sets whose dev queries choose among them."),
    ] = None,
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
    """Measure how evenly embeddings fill their space, on the test texts of each run's sets.

    Example: ragcun isotropy --profile quickstart

    Example: ragcun isotropy --what-if BAAI/bge-small-en-v1.5 --datasets scifact fiqa --dev fiqa
    """
    from ragcun_cli.console import Watcher, asking, show, show_tables

    watcher = Watcher("isotropy", verbose=verbose)
    from ragcun_cli.pipeline.reproduce.evaluations import EvaluationSession
    from ragcun_cli.pipeline.reproduce.session import Choice

    session = EvaluationSession(
        *(workspace, watcher),
        ask=asking(yes),
        force=force,
        prerequisites=prerequisites,
        device=device,
        cache_gb=cache_gb,
        verify=verify,
    )
    choice = Choice(profile, set_, seed, experiment, references)
    tables, document = session.isotropy_or_what_if(choice, what_if, datasets, dev)
    show(document, as_json=as_json, table=partial(show_tables, tables))
