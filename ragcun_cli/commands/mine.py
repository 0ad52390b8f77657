"""`ragcun mine`."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ragcun_cli import options

if TYPE_CHECKING:
    from ragcun_cli.pipeline.reproduce.session import Mined


def mine(
    profile: options.RequiredProfile,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    force: options.Force = False,
    query: Annotated[
        str | None, typer.Option("--show", metavar="QUERY_ID", help="One query and its negatives.")
    ] = None,
    prerequisites: options.Prerequisites = True,
    verify: options.Verify = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Mine BM25 and random negatives for the training queries.

    Example: ragcun mine --profile with_isotropy --set mining.depth=200

    Example: ragcun mine --profile with_isotropy --show 1185869
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher(f"mine {profile}")
    from ragcun_cli.pipeline.reproduce.session import Choice, Session

    session = Session(
        *(workspace, watcher),
        ask=asking(yes),
        force=force,
        prerequisites=prerequisites,
        device=device,
        verify=verify,
    )
    mined = session.mine(Choice(profile, set_, seed, experiment), query=query)
    show(mined.found, as_json=as_json, table=partial(_show_mined, mined))


def _show_mined(mined: "Mined") -> None:
    """The counts of each mining, or one query with its positive and its negatives."""
    from ragcun_cli.console import show_rows
    from ragcun_cli.pipeline.mining.table import lines

    if mined.scores is None:
        for label, found in mined.found.items():
            summary = dict(found)
            folder = ("folder", summary.pop("folder"))
            show_rows(label, ("", ""), [folder, *lines(summary)])
        return
    for label, (query, *passages) in mined.found.items():
        rows = [(p["kind"], p["id"], f"{p['score']:.2f}", p["text"]) for p in passages]
        columns = ("", "id", mined.scores[label], "text")
        show_rows(f"{label}: {query['text']}", columns, rows)
