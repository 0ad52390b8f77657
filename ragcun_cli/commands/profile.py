"""`ragcun profile`."""

from pathlib import Path
from typing import Annotated

import typer

from ragcun_cli import options

app = typer.Typer(no_args_is_help=True, help="List, show and write profiles.")


@app.command("list")
def list_profiles(as_json: options.AsJson = False) -> None:
    """Show the profiles and plans that a name can mean.

    Example: ragcun profile list
    """
    from ragcun_cli.console import show_rows, write_json
    from ragcun_cli.pipeline.profiles import summaries

    rows = summaries()
    if as_json:
        write_json(
            [dict(zip(("name", "kind", "description", "file"), r, strict=True)) for r in rows]
        )
    else:
        show_rows("Profiles", ("name", "kind", "what it is", "file"), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name, or a path to a TOML file.")],
    set_: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """Print every value of a profile as it is resolved, defaults among them.

    Example: ragcun profile show with_isotropy --set training.batch_size=32
    """
    from ragcun_cli.console import write, write_json
    from ragcun_cli.pipeline.profiles import load, resolved
    from ragcun_cli.pipeline.toml_text import as_toml

    values = resolved(load(name, sets=set_ or []))
    if as_json:
        write_json(values)
    else:
        write(as_toml(values))


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Of the new profile.")],
    extends: Annotated[str, typer.Option(help="The profile it starts from.")] = "with_isotropy",
) -> None:
    """Write ./profiles/NAME.toml, which extends another profile.

    Example: ragcun profile init lambda_half --extends with_isotropy
    """
    from ragcun_cli.console import say, write
    from ragcun_cli.pipeline.profiles import write_new

    file: Path = write_new(name, extends=extends)
    say("written; change what you like, then: ragcun train --profile " + name)
    write(str(file))


@app.command()
def schema(
    plan: Annotated[bool, typer.Option("--plan", help="Of a plan instead of a profile.")] = False,
) -> None:
    """Print the JSON schema of a profile: every key, its bounds and what it means.

    Example: ragcun profile schema > profile.schema.json
    """
    from ragcun_cli.console import write_json
    from ragcun_cli.spec.plan import PlanFile
    from ragcun_cli.spec.profile import RunProfile

    write_json((PlanFile if plan else RunProfile).model_json_schema())
