"""`ragcun eval`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragcun_cli import options
from ragcun_cli.pipeline.search.division import CHUNK_PASSAGES, Searching, Shard
from ragcun_cli.spec.paths import CACHE_GB

if TYPE_CHECKING:
    from ragcun_cli.pipeline.reproduce.evaluations import ToLookAt


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
        typer.Option("--query", metavar="TEXT", help="Show what up to six models find for it."),
    ] = None,
    disagreements: Annotated[
        int | None,
        typer.Option(
            "--disagreements", metavar="N", min=1, help="Queries on which two models differ most."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Web page of what --query or --disagreements finds."),
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

    Example: ragcun eval --disagreements 20 --datasets scifact --model A --model B -o page.html
    """
    from ragcun_cli.console import Watcher, asking, show

    watcher = Watcher("eval", verbose=verbose)
    from ragcun_cli.pipeline.reproduce.evaluations import EvaluationSession, ToLookAt
    from ragcun_cli.pipeline.reproduce.session import Choice

    how = Searching(
        shard=Shard.parse(shard),
        merge=merge,
        chunk=chunk,
        keep_embeddings=keep_embeddings or query is not None,
    )
    look = ToLookAt(query, disagreements, output)
    _refuse_beside(look, of_typed=force or not prerequisites, of_any=baseline_check)
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
        look=look,
        baseline_check=baseline_check,
    )
    table = partial(_show_found, found, datasets, look, baseline_check=baseline_check)
    show(partial(_as_json, found), as_json=as_json, table=table)
    session.require_reproduced()


def _refuse_beside(look: ToLookAt, *, of_typed: bool, of_any: bool) -> None:
    """Refuse options that do not go together: beside a typed query, beside any look at hits."""
    counts = look.disagreements is not None
    if look.query is not None and (of_typed or of_any or counts):
        raise typer.BadParameter("--query only looks at hits: leave the other options out")
    if counts and of_any:
        raise typer.BadParameter("--disagreements and --baseline-check ask two things")
    if look.page is not None and look.query is None and not counts:
        raise typer.BadParameter("--output is the page of --query or of --disagreements")


def _show_found(
    found: Any,  # noqa: ANN401
    datasets: Sequence[str] | None,
    look: ToLookAt,
    *,
    baseline_check: bool,
) -> None:
    """Hits side by side, unless a page has them; scores beside published ones; or scores."""
    from ragcun_cli.commands.eval_shown import show_comparisons, show_looked, show_scores
    from ragcun_cli.pipeline.reproduce.session import data_set_names

    if look.query is not None or look.disagreements is not None:
        if look.page is None:
            show_looked(found, ", ".join(data_set_names(datasets) or ()))
    elif baseline_check:
        show_comparisons(found)
    else:
        show_scores(found)


def _as_json(found: Any) -> Any:  # noqa: ANN401
    """Of hits their fields; of the one query that was typed, label -> hits."""
    from dataclasses import asdict, is_dataclass

    if not found or not is_dataclass(found[0]):
        return found
    queries = [asdict(one) for one in found]
    return queries[0]["hits"] if queries[0]["query"] is None else queries
