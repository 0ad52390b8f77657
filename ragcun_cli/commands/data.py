"""`ragcun data`."""

from pathlib import Path
from typing import Annotated

import typer

from ragcun_cli import options

app = typer.Typer(no_args_is_help=True, help="Build, import, check and list data sets.")


@app.command("list")
def list_sets(workspace: options.WorkspaceFolder = None, as_json: options.AsJson = False) -> None:
    """Show which data sets there are, and which are here.

    Example: ragcun data list
    """
    from ragcun_cli.commands.session import Session

    Session(workspace, as_json=as_json).show_datasets()


@app.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(help="pydocs sets; all six tests and pydocs by default.")
    ] = None,
    workspace: options.WorkspaceFolder = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Make the data sets that are made of installed libraries' docstrings.

    Example: ragcun data build pydocs pydocs-scipy
    """
    from ragcun_cli.commands.session import Session

    Session(workspace, as_json=as_json).build_datasets(names or [], force=force)


@app.command()
def get(
    names: Annotated[
        list[str], typer.Argument(help="Published sets by name, `beir` for the test sets, `all`.")
    ],
    mirror: Annotated[
        list[str] | None,
        typer.Option("--mirror", help="Address of a folder with BEIR's zips, asked first."),
    ] = None,
    workspace: options.WorkspaceFolder = None,
    force: options.Force = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Download published sets, and hold them against the registry of sizes, checksums and counts.

    Example: ragcun data get scifact nfcorpus
    """
    from ragcun_cli.commands.session import Session

    session = Session(workspace, as_json=as_json)
    session.get_datasets(names, mirrors=mirror or [], force=force, yes=yes)


@app.command("import")
def import_set(
    folder: Annotated[Path, typer.Argument(help="A folder in BEIR layout.")],
    name: Annotated[str, typer.Option("--name", help="What to call it.")],
    workspace: options.WorkspaceFolder = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a set of that name.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check a folder in BEIR layout and copy it into the workspace.

    Example: ragcun data import ~/beir/scifact --name scifact
    """
    from ragcun_cli.commands.session import Session

    Session(workspace, as_json=as_json).import_dataset(folder, name, force=force)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="All that are here by default.")] = None,
    workspace: options.WorkspaceFolder = None,
    as_json: options.AsJson = False,
) -> None:
    """Read the files of data sets and hold them against their digests and each other.

    Example: ragcun data verify pydocs-scipy
    """
    from ragcun_cli.commands.session import Session

    Session(workspace, as_json=as_json).verify_datasets(names or [])
