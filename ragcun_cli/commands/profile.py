"""`ragcun profile`."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from ragcun_cli import options

app = typer.Typer(no_args_is_help=True, help="List, show and write profiles.")


@app.command("list")
def list_profiles(as_json: options.AsJson = False) -> None:
    """Show the profiles and plans that a name can mean.

    Example: ragcun profile list
    """
    from ragcun_cli import console
    from ragcun_cli.pipeline.profiles.load import summaries

    rows = summaries()
    console.show(rows, as_json=as_json, table=partial(_show_profiles, rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name, or a path to a TOML file.")],
    set_: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """Print every value of a profile as it is resolved, defaults among them.

    Example: ragcun profile show with_isotropy --set training.batch_size=32
    """
    from ragcun_cli import console
    from ragcun_cli.pipeline.profiles.load import load, resolved
    from ragcun_cli.pipeline.profiles.toml_text import as_toml

    values = resolved(load(name, sets=set_ or []))
    console.show(values, as_json=as_json, table=partial(console.write, as_toml(values)))


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Of the new profile.")],
    extends: Annotated[
        str | None, typer.Option(help="What it starts from; with_isotropy by default.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="A plan: experiments, references, seeds, overrides.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SET", help="A plan for this data set, by its size."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --data: another encoder than MiniLM.")
    ] = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
) -> None:
    """Write ./profiles/NAME.toml: it extends another profile, or is a plan.

    With --data it is a plan that compares the base, what is free, and a fine-tune on that set, with
    values that follow from the size of the set and the machine.

    Example: ragcun profile init lambda_half --extends with_isotropy

    Example: ragcun profile init --plan my_paper --extends quickstart

    Example: ragcun profile init mine --data mine
    """
    from ragcun_cli.console import Watcher, say, write
    from ragcun_cli.pipeline.reproduce.own_plan import ProfileSession

    session = ProfileSession(workspace, Watcher(), device=device)
    file = session.init_profile(name, extends=extends, is_plan=plan, data=data, base=base)
    say("written; change what you like, then: ragcun reproduce --profile " + name)
    write(str(file))


@app.command()
def schema(
    plan: Annotated[bool, typer.Option("--plan", help="Of plans alone.")] = False,
) -> None:
    """Print the JSON schema of profiles and plans: every key, its bounds and what it means.

    A file that names experiments is a plan.

    Example: ragcun profile schema > profile.schema.json
    """
    from ragcun_cli.console import write_json
    from ragcun_cli.pipeline.profiles.schema import json_schema

    write_json(json_schema(of_plan=plan))


def _show_profiles(rows: Sequence[dict[str, str]]) -> None:
    from ragcun_cli.console import show_rows

    cells = [list(row.values()) for row in rows]
    show_rows("Profiles", ("name", "kind", "what it is", "file"), cells)
