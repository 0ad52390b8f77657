"""`ragcun isotropy`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ragcun_cli import options
from ragcun_cli.spec.paths import CACHE_GB

if TYPE_CHECKING:
    from ragcun_cli.pipeline.report.table import Table
    from ragcun_cli.pipeline.reproduce.evaluations import EvaluationSession
    from ragcun_cli.pipeline.reproduce.session import Choice


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
    tables, document = _measured(session, choice, what_if, datasets, dev)
    show(document, as_json=as_json, table=partial(show_tables, tables))


def _measured(
    session: "EvaluationSession",
    choice: "Choice",
    model: str | None,
    datasets: Sequence[str] | None,
    dev: Sequence[str] | None,
) -> "tuple[list[Table], str | Callable[[], str]]":
    """Tables, and the document that JSON is."""
    from ragcun_cli.pipeline.report.formats.formats import render

    if model is not None:
        return session.what_if(choice, model, datasets=datasets, dev=dev)
    if datasets or dev:
        raise typer.BadParameter("--datasets and --dev go with --what-if MODEL")
    tables = session.isotropy(choice)
    return tables, partial(render, tables, (), "json", title="isotropy")
