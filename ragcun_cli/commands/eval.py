"""`ragcun eval`."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Annotated, Any

import typer

from ragcun_cli import options
from ragcun_cli.pipeline.search.division import CHUNK_PASSAGES, Searching, Shard
from ragcun_cli.spec.paths import CACHE_GB

SHOWN = (
    *("ndcg@10", "recall@10", "recall@100", "recall@1000", "mrr@10", "map@1000", "judged@10"),
    *("page_r_precision", "page_recall@5"),
)
"""Metrics of the terminal's table; JSON has all."""

SNIPPET = 160
"""Characters of a text that are shown of it."""


def evaluate(
    datasets: options.Datasets = None,
    profile: options.Profile = None,
    set_: options.Sets = None,
    experiment: options.Experiments = None,
    seed: options.Seeds = None,
    references: options.References = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Any sentence-transformers folder or name; repeatable."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option("--query", metavar="TEXT", help="Show what one or two models find for it."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Search one of N parts, for an array job."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Put together what shards found, and score it.")
    ] = False,
    baseline_check: Annotated[
        bool,
        typer.Option("--baseline-check", help="Hold untouched bases against published scores."),
    ] = False,
    chunk: Annotated[
        int, typer.Option("--chunk", min=1, help="Passages between two saves of a search.")
    ] = CHUNK_PASSAGES,
    keep_embeddings: Annotated[
        bool,
        typer.Option("--keep-embeddings", help="Keep embeddings of passages, and use kept ones."),
    ] = False,
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
    """Score models on test sets: those of a profile, or every finished run of the workspace.

    Run files and per-query scores are kept. `all`, the default, means the sets of each run's plan;
    `beir` means BEIR's 18 test sets, and `public` those that can be downloaded, and MS MARCO's.

    Example: ragcun eval --datasets all

    Example: ragcun eval --model BAAI/bge-small-en-v1.5 --datasets scifact nfcorpus

    Example: ragcun eval --query "is vitamin D good for bones" --datasets scifact --profile NAME
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher("eval", verbose=verbose)
    from ragcun_cli.pipeline.reproduce.evaluations import EvaluationSession
    from ragcun_cli.pipeline.reproduce.session import Choice

    how = Searching(
        shard=Shard.parse(shard),
        merge=merge,
        chunk=chunk,
        keep_embeddings=keep_embeddings or query is not None,
    )
    _refuse_beside_query(query, baseline_check or force or not prerequisites)
    session = EvaluationSession(
        *(workspace, watcher),
        ask=asking(yes),
        force=force,
        prerequisites=prerequisites,
        device=device,
        cache_gb=cache_gb,
        verify=verify,
        how=how,
    )
    found = session.evaluate(
        Choice(profile, set_, seed, experiment, references),
        datasets=datasets,
        models=model,
        query=query,
        baseline_check=baseline_check,
    )
    table = partial(_show_found, found, datasets, query, baseline_check=baseline_check)
    show(found, as_json=as_json, table=table)
    session.require_reproduced()


def _refuse_beside_query(query: str | None, other: bool) -> None:
    if query is not None and other:
        raise typer.BadParameter("--query only looks at hits: leave the other options out")


def _show_found(
    found: Any,  # noqa: ANN401
    datasets: Sequence[str] | None,
    query: str | None,
    *,
    baseline_check: bool,
) -> None:
    """Hits side by side, scores beside published ones, or scores."""
    from ragcun_cli.console import show_rows
    from ragcun_cli.pipeline.reproduce.evaluations import data_set_names

    if query is not None:
        searched = ", ".join(data_set_names(datasets) or ())
        show_rows(f"{searched}: {query}", *_side_by_side(found))
    elif baseline_check:
        _show_comparisons(found)
    elif found is not None:
        metrics = [name for name in SHOWN if any(name in one["metrics"] for one in found)]
        rows = [
            (one["run"], one["dataset"], *(_score(one["metrics"].get(name)) for name in metrics))
            for one in found
        ]
        show_rows("Evaluated", ("run", "data set", *metrics), rows)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _show_comparisons(found: Sequence[Mapping[str, Any]]) -> None:
    from ragcun_cli.console import show_rows
    from ragcun_cli.pipeline.evaluation.baseline import TOLERANCE

    rows = [
        (
            one["dataset"],
            *(f"{one[key]:.5f}" for key in ("measured", "published")),
            f"{one['difference']:+.5f}",
            "ok" if one["within"] else "off",
        )
        for one in found
    ]
    columns = ("data set", "nDCG@10", "published", "difference", "")
    show_rows(f"Untouched base, tolerance {TOLERANCE:g}", columns, rows)


def _side_by_side(
    found: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: by rank, what each model found, and where the other one has it."""
    longest = max(map(len, found.values()))
    columns, rows = [""], [[f"{rank}"] for rank in range(1, longest + 1)]
    for label, hits in found.items():
        others = [hits for name, hits in found.items() if name != label]
        columns += [label, "score", *("other's rank" for _ in others), "text"]
        ranks = [{hit["passage"]: rank for rank, hit in enumerate(one, 1)} for one in others]
        for row, hit in zip_longest(rows, hits):
            if hit is None:
                row += ["", "", *("" for _ in others), ""]
            else:
                cells = [f"{place.get(hit['passage'], '-')}" for place in ranks]
                row += [hit["passage"], f"{hit['score']:.4g}", *cells, hit["text"][:SNIPPET]]
    return columns, rows
