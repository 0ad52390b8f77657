"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from ragcun_cli.spec.section import LARGEST

Profile = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="Profile or plan: a name, or a path to a TOML file."),
]
RequiredProfile = Annotated[
    str, typer.Option("--profile", "-p", help="Profile or plan: a name, or a path to a TOML file.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the profile; repeatable."),
]
Seeds = Annotated[
    list[int] | None, typer.Option("--seed", min=0, max=LARGEST, help="Only this seed; repeatable.")
]
Experiments = Annotated[
    list[str] | None,
    typer.Option("--experiment", metavar="NAME", help="Only this one of the plan; repeatable."),
]
References = Annotated[
    str | None,
    typer.Option(
        "--references",
        metavar="NAMES",
        help="Rows beside the experiments: untouched,untouched_start,free_transform,bm25,fusion, "
        "or none.",
    ),
]


def _for_session(*names: str, **more: Any) -> Any:  # noqa: ANN401
    """An option that a variable of the environment sets for all commands."""
    variable = f"RAGCUN_{names[0][2:].upper().replace('-', '_')}"
    return typer.Option(*names, envvar=variable, **more)


WorkspaceFolder = Annotated[
    str | None, _for_session("--workspace", "-w", help="Folder of runs; or ./workspace.")
]
Device = Annotated[str, _for_session("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Mirrors = Annotated[
    list[str] | None,
    _for_session("--mirror", help="Address of a folder with BEIR's zips, asked first."),
]
CacheGigabytes = Annotated[
    float,
    _for_session(
        "--cache-gb",
        help="Gigabytes of frozen bases' outputs to keep, at most.",
        metavar="N",
        min=0,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run again although it is current.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, no tables.")]
Prerequisites = Annotated[
    bool,
    typer.Option(
        "--prerequisites/--no-prerequisites", help="Make what is read and is not there or stale."
    ),
]
Yes = Annotated[bool, _for_session("--yes", "-y", help="Agree to long work without being asked.")]
Verify = Annotated[bool, _for_session("--verify", help="Read files to see that they are intact.")]
Verbose = Annotated[bool, _for_session("--verbose", help="Say more of how a training starts.")]
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--datasets",
        "-d",
        metavar="NAMES",
        help="Names, beir or public: a,b or a b; all: of the plan.",
    ),
]


class LauncherName(StrEnum):
    """What can start the runs of a plan."""

    LOCAL = "local"
    GPUS = "gpus"
    SLURM = "slurm"


class ReportFormat(StrEnum):
    """What a report can be written in."""

    LATEX = "latex"
    MARKDOWN = "markdown"
    HTML = "html"
    CSV = "csv"
    JSON = "json"
