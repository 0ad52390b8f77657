"""`ragcun serve`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragcun_cli import options

if TYPE_CHECKING:
    from ragcun_cli.pipeline.serving.check import Checked

app = typer.Typer(
    no_args_is_help=True, help="Export a model for servers, and check what a server computes."
)

Model = Annotated[
    str | None,
    typer.Argument(help="A sentence-transformers folder or name; or none, and --profile."),
]


@app.command()
def export(
    onnx: Annotated[
        str, typer.Option("--onnx", metavar="FOLDER", help="Write the model and its whole graph.")
    ],
    model: Model = None,
    cosine: Annotated[
        bool,
        typer.Option("--cosine", help="Bring embeddings to length 1, to be compared by cosine."),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Add a graph whose weights are in int8.")
    ] = False,
    datasets: options.Datasets = None,
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    workspace: options.WorkspaceFolder = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a folder that servers load: the model, its tokenizer, and onnx/model.onnx.

    The graph holds the whole model, from token ids to `sentence_embedding`, and is held against it.

    Example: ragcun serve export workspace/runs/with_isotropy/0123abcd/seed-1/model --onnx served

    Example: ragcun serve export --profile quickstart --experiment with_isotropy --seed 1 --onnx out

    Example: ragcun serve export MODEL --onnx served --cosine --datasets scifact
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher("serve export")
    from ragcun_cli.pipeline.reproduce.serving import ServingSession
    from ragcun_cli.pipeline.reproduce.session import Choice

    session = ServingSession(workspace, watcher, ask=asking(yes), force=force, device="cpu")
    choice = Choice(profile, set_, seed, experiment)
    found = session.export(model, choice, onnx, cosine=cosine, int8=int8, datasets=datasets)
    show(found, as_json=as_json, table=partial(_show_export, found))


@app.command()
def check(
    model: Model = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Of the server of embeddings.")
    ] = None,
    api: Annotated[
        options.ApiName, typer.Option("--api", help="What it speaks: /v1/embeddings or /embed.")
    ] = options.ApiName.OPENAI,
    key_env: Annotated[
        str | None,
        typer.Option("--key-env", metavar="NAME", help="Variable that holds the server's key."),
    ] = None,
    served_as: Annotated[
        str | None,
        typer.Option("--served-as", metavar="NAME", help="The model's name there; or the first."),
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
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
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
    from ragcun_cli.pipeline.reproduce.serving import Server, ServingSession
    from ragcun_cli.pipeline.reproduce.session import Choice

    session = ServingSession(workspace, watcher, ask=asking(yes), device=device)
    choice = Choice(profile, set_, seed, experiment)
    server = Server(url, api.value, key_env, served_as, vectors, ids)
    found = session.check(model, choice, server, datasets)
    show(found.document(), as_json=as_json, table=partial(_show_checked, found))
    session.require_equal()


def _show_export(found: Mapping[str, Any]) -> None:
    from ragcun_cli.console import say, show_rows

    rows = [
        ("folder", found["folder"]),
        ("graph", f"{found['graph']}, {found['bytes'] / 1e6:,.1f} MB, fp32"),
        ("embeddings", f"{found['dimensions']} dimensions, compared by {found['similarity']}"),
        (
            "graph against model",
            f"{found['largest_difference']:.1e} of the norm at most, on {found['texts']} texts",
        ),
    ]
    if small := found["int8"]:
        rows.append(("int8", f"{small['graph']}, {small['bytes'] / 1e6:,.1f} MB"))
        distance = f"cosine distance {small['largest_cosine_distance']:.3g} at most, on those texts"
        rows.append(("int8 against fp32", distance))
    for cost in found["cosine_cost"] or ():
        own, cosine = cost["model"], cost["cosine"]
        change = f"{own:.4f} -> {cosine:.4f} ({100 * (cosine - own):+.2f} points)"
        rows.append((f"nDCG@10 by cosine, {cost['dataset']}", change))
    show_rows(f"Exported {found['model']}", ("", ""), rows)
    if found["cosine"] and not found["cosine_cost"]:
        say("what cosine costs was not measured: --datasets NAME --force measures it on a set")


def _show_checked(found: "Checked") -> None:
    from ragcun_cli.console import say, show_rows

    def pair(name: str, values: tuple[float, float], form: str) -> tuple[str, str, str]:
        return name, format(values[0], form), format(values[1], form)

    rows = [pair("dimensions", found.dimensions, ","), pair("mean norm", found.norms, ".4f")]
    if found.cosine is not None:
        rows.append(("cosine, least and mean", "", "{:.6f}, {:.6f}".format(*found.cosine)))
    if found.difference is not None:
        rows.append(("largest difference of the norm", "", f"{found.difference:.2e}"))
    if (ten := found.top_ten) is not None:
        on = f"best ten, {ten.queries} queries, {ten.passages} passages"
        rows.append((on, "", f"{ten.shared:.1%} shared on {found.top_ten_on}"))
    verdict = "equal" if found.equal else ", ".join(found.causes)
    rows.append(("verdict", "", verdict))
    title = f"{found.model} on {found.texts} texts"
    show_rows(title, ("", "model", "served"), rows)
    for note in found.notes:
        say(note)
