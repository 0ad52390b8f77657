"""Entry point: register the commands, and be the one place that turns errors into exit codes."""

import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from ragcun_cli.commands.data import app as data_app
from ragcun_cli.commands.eval import evaluate
from ragcun_cli.commands.isotropy import isotropy
from ragcun_cli.commands.mine import mine
from ragcun_cli.commands.profile import app as profile_app
from ragcun_cli.commands.report import report
from ragcun_cli.commands.reproduce import reproduce
from ragcun_cli.commands.serve import app as serve_app
from ragcun_cli.commands.train import train
from ragcun_cli.pipeline.machine import giving_out, processes, stops
from ragcun_cli.pipeline.machine.dotenv_file import read_dotenv
from ragcun_cli.pipeline.machine.kernels import keep_kernels
from ragcun_cli.pipeline.profiles.problems import in_words
from ragcun_cli.spec.addresses import HidingRecord
from ragcun_cli.spec.errors import RagcunError, WorkspaceError


class Commands(TyperGroup):
    """All commands.

    A file of ours that ends early is no Ctrl-D, for which Typer would take it, and what is wrong
    with an option is said as it is of a profile.
    """

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Their names; data first, as its own commands are what the road begins with."""
        return sorted(super().list_commands(ctx), key=lambda name: name != "data")

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                error.message = in_words(error.__cause__.errors()[0])
            raise
        except EOFError as error:
            raise RuntimeError("what was read ended too early") from error


ROAD, ALL_OF_IT, BESIDE = "The road, in this order", "The whole road", "Beside the road"

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Show whether isotropy makes dense retrieval better: train, evaluate, report.\n\n"
    "data → mine → train → eval → isotropy → report is the road from texts to a table, and "
    "reproduce walks all of it for a plan. A command makes what it needs and is not there yet; "
    "what is done is not done again.",
    epilog="Begin with: ragcun reproduce --profile quickstart, minutes on a CPU; with --dry-run it "
    "only says what it would do. Every command has --help with an example.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data", rich_help_panel=ROAD)
app.command(rich_help_panel=ROAD)(mine)
app.command(rich_help_panel=ROAD)(train)
app.command("eval", rich_help_panel=ROAD)(evaluate)
app.command(rich_help_panel=ROAD)(isotropy)
app.command(rich_help_panel=ROAD)(report)
app.command(rich_help_panel=ALL_OF_IT)(reproduce)
app.add_typer(profile_app, name="profile", rich_help_panel=BESIDE)
app.add_typer(serve_app, name="serve", rich_help_panel=BESIDE)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ragcun {version('ragcun')}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_show_version, is_eager=True
    ),
) -> None:
    pass


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """``--datasets a b`` as ``--datasets a --datasets b``, which the parser understands."""
    spread: list[str] = []
    option: str | None = None
    for argument in arguments:
        if argument.startswith("-"):
            option = argument if argument in ("--datasets", "-d", "--dev") else None
        elif option is not None and spread[-1] != option:
            spread.append(option)
        spread.append(argument)
    return spread


def _run_as_rank() -> None:
    """One of the processes that torchrun started."""
    if processes.rank() > 0:
        processes.follow()
        return
    with processes.leading():
        app(spread_lists(sys.argv[1:]))


def _ready_streams() -> None:
    """What goes to a file or a pipe is UTF-8, whatever the locale; a closed stream is nowhere."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # else a file of ours would take its number
            nowhere = Path(os.devnull).open("r" if name == "stdin" else "w")  # noqa: SIM115
            setattr(sys, name, nowhere)
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def main() -> None:
    """Run the command line; an expected error becomes one message, one hint and an exit code."""
    _ready_streams()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.setLogRecordFactory(HidingRecord)
    keep_kernels()
    # Threads that wait must not spin: on a shared machine that slows everyone down many times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with stops.heeded():
        code = _exit_code()
    sys.exit(code)


def _told(error: RagcunError) -> int:
    from ragcun_cli.console import show_error

    show_error(error)
    return error.exit_code


def _refuse_nowhere() -> None:
    """Pass if the working directory is there, which paths are read from."""
    try:
        Path.cwd()
    except OSError as error:
        raise WorkspaceError(
            f"the working directory cannot be read: {error.strerror}", hint="cd FOLDER"
        ) from error


def _exit_code() -> int | str | None:
    """Run the command line to its end."""
    code: int | str | None = 0
    try:
        _refuse_nowhere()
        read_dotenv(Path(".env"))
        if processes.is_alone():
            app(spread_lists(sys.argv[1:]))
        else:
            _run_as_rank()
    except RagcunError as error:
        code = _told(error)
    except Exception as error:
        if (known := giving_out.gave_out(error)) is None:
            raise
        code = _told(known)
    except SystemExit as end:
        code = end.code
    except stops.Stopped:
        pass
    if (number := stops.asked()) is None:
        return code
    from ragcun_cli.console import say

    next_time = "begins anew" if "--force" in sys.argv else "goes on"
    say(f"stopped; what was finished is kept, and the same command {next_time}")
    return 128 + number
