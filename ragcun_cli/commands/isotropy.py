"""`ragcun isotropy`."""

from functools import partial

from ragcun_cli import options
from ragcun_cli.spec.paths import CACHE_GB


def isotropy(
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
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
    """
    from ragcun_cli.console import Watcher, asking, show, show_tables

    watcher = Watcher("isotropy", verbose=verbose)
    from ragcun_cli.pipeline.report.formats.formats import render
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
    tables = session.isotropy(Choice(profile, set_, seed, experiment, references))
    document = partial(render, tables, (), "json", title="isotropy")
    show(document, as_json=as_json, table=partial(show_tables, tables))
