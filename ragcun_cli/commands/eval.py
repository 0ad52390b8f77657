"""`ragcun eval`."""

from typing import Annotated

import typer

from ragcun_cli import options
from ragcun_cli.pipeline.searching import CHUNK_PASSAGES


def evaluate(
    datasets: options.Datasets = None,
    profile: options.Profile = None,
    set_: options.Sets = None,
    seed: options.Seeds = None,
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
    force: options.Force = False,
    prerequisites: options.Prerequisites = True,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Score models on test sets: those of a profile, or every finished run of the workspace.

    Run files and per-query scores are kept. `all`, the default, means the sets of each run's plan;
    `public` means MS MARCO's dev set and BEIR's sets that can be downloaded.

    Example: ragcun eval --datasets all

    Example: ragcun eval --model BAAI/bge-small-en-v1.5 --datasets scifact nfcorpus

    Example: ragcun eval --query "is vitamin D good for bones" --datasets scifact --profile NAME
    """
    from ragcun_cli.commands.eval_session import EvalSession, Searching, Shard

    how = Searching(
        shard=None if shard is None else Shard.parse(shard),
        merge=merge,
        chunk=chunk,
        keep_embeddings=keep_embeddings or query is not None,
    )
    session = EvalSession(workspace, device=device, as_json=as_json, searching=how)
    names = session.names(datasets)
    runs = session.chosen_runs(profile, model, sets=set_, seeds=seed, datasets=names)
    if query is not None and (baseline_check or force or not prerequisites):
        raise typer.BadParameter("--query only looks at hits: leave the other options out")
    if query is not None:
        session.look(runs, query, names, yes=yes)
        return
    if baseline_check:
        session.check_baseline(runs, names, yes=yes)
        return
    session.run(runs, names, force=force, prerequisites=prerequisites, yes=yes)
