"""`ragcun serve`."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ragcun_cli import options

app = typer.Typer(
    no_args_is_help=True, help="Export a model for servers, and check what a server computes."
)

ServedModel = Annotated[
    str, typer.Argument(help="A sentence-transformers folder or name, or the folder of a run.")
]


@app.command("export")
def export_served(
    model: ServedModel,
    onnx: Annotated[str, typer.Option("--onnx", metavar="FOLDER", help="To write, a new one.")],
    cosine: Annotated[
        bool, typer.Option("--cosine", help="Embeddings of length 1, compared by cosine.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Add a graph with weights in int8.")] = False,
    datasets: options.Datasets = None,
    workspace: options.WorkspaceFolder = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a folder that servers load: the model, its tokenizer, and onnx/model.onnx.

    The graph holds the whole model, from token ids to `sentence_embedding`, and is held against it.
    With --cosine, data sets say what that costs.

    Example: ragcun serve export workspace/runs/with_isotropy/0123abcd/seed-1 --onnx served

    Example: ragcun serve export MODEL --onnx served --cosine --datasets scifact
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher("serve export")
    from ragcun_cli.pipeline.reproduce.serving import ServingSession

    session = ServingSession(workspace, watcher, ask=asking(yes), force=force, device="cpu")
    found = session.export(model, onnx, cosine=cosine, int8=int8, datasets=datasets)
    show(found, as_json=as_json, table=partial(_show_found, "Exported", found))


@app.command("check")
def check_served(
    model: ServedModel,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Of the server of embeddings.")
    ] = None,
    api: Annotated[
        Literal["openai", "tei"], typer.Option(help="It answers /v1/embeddings, or /embed.")
    ] = "openai",
    key_env: Annotated[
        str | None,
        typer.Option("--key-env", metavar="NAME", help="Variable that holds the server's key."),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option("--vectors", metavar="FILE.npy", help="Vectors from a store, instead."),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", metavar="FILE", help="Ids of their passages, one a line."),
    ] = None,
    datasets: options.Datasets = None,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Hold a server's vectors against the model's own, and name why they differ.

    Exits with 0 where they are equal, 4 where they differ, 2 where nothing could be compared.

    Example: ragcun serve check MODEL --url http://localhost:8080 --api tei --datasets scifact

    Example: ragcun serve check MODEL --vectors store.npy --ids ids.txt --datasets scifact
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher("serve check")
    from ragcun_cli.pipeline.reproduce.serving import ServingSession

    session = ServingSession(workspace, watcher, ask=asking(yes), device=device)
    found = session.check(model, (url, api, key_env), (vectors, ids), datasets=datasets)
    show(found, as_json=as_json, table=partial(_show_found, "Checked", found))
    session.require_equal()


def _show_found(title: str, found: Mapping[str, Any]) -> None:
    from ragcun_cli.console import show_rows

    show_rows(f"{title} {found['model']}", ("", ""), [*_rows(found)])


def _rows(found: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """A row for each value of a document that is not empty."""
    for key, value in found.items():
        name = f"{above}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name}, ")
        elif value not in (None, [], ""):
            yield name, "; ".join(map(_shown, value if isinstance(value, list) else [value]))


def _shown(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
