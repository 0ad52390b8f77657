"""`ragcun data`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ragcun_cli import options
from ragcun_cli.pipeline.data.proxy.settings import (
    PASSAGE_WORDS,
    ROUND_TRIP_BASE,
    ROUND_TRIP_LENGTH,
    PairsOf,
)
from ragcun_cli.spec.paths import CACHE_GB

app = typer.Typer(
    no_args_is_help=True, help="Bring, build, import, sample, describe and check data sets."
)

Name = Annotated[str, typer.Argument(help="A data set that is here; see `ragcun data list`.")]


@app.command("list")
def list_sets(workspace: options.WorkspaceFolder = None, as_json: options.AsJson = False) -> None:
    """Show which data sets there are: size, licence, the split that is reported, what is here.

    Example: ragcun data list
    """
    from ragcun_cli.commands.data_shown import show_listing
    from ragcun_cli.console import Watcher, show
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession

    found = DataSession(workspace, Watcher()).listing()
    show(found.rows, as_json=as_json, table=partial(show_listing, found))


@app.command()
def get(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Sets by name, `beir` for its 18 test sets, `public` for free ones."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="All that a plan needs: sets, encoder, tokenizer."),
    ] = None,
    sets: options.Sets = None,
    mirror: options.Mirrors = None,
    workspace: options.WorkspaceFolder = None,
    force: options.Force = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Download published sets, and hold them against the registry of sizes, checksums and counts.

    Example: ragcun data get scifact nfcorpus

    Example: ragcun data get --profile publication --yes
    """
    from ragcun_cli.commands.data_shown import show_sets
    from ragcun_cli.console import Watcher, asking, show
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession
    from ragcun_cli.pipeline.reproduce.session import Choice

    _refuse_both_or_none(names, profile)
    session = DataSession(workspace, Watcher(), ask=asking(yes), force=force, mirrors=mirror or [])
    found = session.get(names or [], Choice(profile, sets))
    show(found, as_json=as_json, table=partial(show_sets, found))


def _refuse_both_or_none(names: list[str] | None, profile: str | None) -> None:
    if bool(names) == bool(profile):
        raise typer.BadParameter("name data sets, or --profile NAME")


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
    from ragcun_cli.commands.data_shown import show_sets
    from ragcun_cli.console import Watcher, show
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession

    session = DataSession(workspace, Watcher(), force=force)
    found = session.build(names or [])
    show(found, as_json=as_json, table=partial(show_sets, found))


@app.command("import")
def import_set(
    source: Annotated[
        Path,
        typer.Argument(help="A folder in BEIR layout or of documents; a .jsonl, .csv or .tsv."),
    ],
    name: Annotated[str, typer.Option("--name", help="What to call it.")],
    test_queries: Annotated[
        int | None, typer.Option(min=0, help="Of a table or of pairs, held out to test on.")
    ] = None,
    dev_queries: Annotated[
        int | None, typer.Option(min=0, help="Likewise, held out for development.")
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="NAMES", help="What a table calls them: query=question.")
    ] = "",
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="TEXT", help="What the data is under, for the record."),
    ] = None,
    pairs: Annotated[
        PairsOf | None, typer.Option(help="Make queries of what documents say.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Or take these: query, passage_id.")
    ] = None,
    passage_words: Annotated[
        int, typer.Option(min=10, help="Of a passage of pairs, at most.")
    ] = PASSAGE_WORDS,
    max_pairs: Annotated[int | None, typer.Option(min=3, help="Pairs to keep, at most.")] = None,
    round_trip: Annotated[
        bool, typer.Option(help="Keep pairs whose passage a base finds within 20.")
    ] = True,
    base: Annotated[str, typer.Option(help="That base: a name or a folder.")] = ROUND_TRIP_BASE,
    max_seq_length: Annotated[
        int, typer.Option(min=4, help="Word pieces that it reads of a text.")
    ] = ROUND_TRIP_LENGTH,
    workspace: options.WorkspaceFolder = None,
    device: options.Device = "auto",
    cache_gb: options.CacheGigabytes = CACHE_GB,
    force: Annotated[bool, typer.Option("--force", help="Replace a set of that name.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check data that you have, and take it in; of passages without queries, make pairs.

    A folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv. A table has
    the columns query, positive and perhaps negatives. With --pairs or --queries: a folder of
    Markdown, plain text and HTML, or a table with text and perhaps title and id.

    Example: ragcun data import ~/beir/scifact --name scifact

    Example: ragcun data import pairs.csv --name mine --test-queries 200

    Example: ragcun data import faq.csv --name faq --columns query=question,positive=answer

    Example: ragcun data import ~/docs --name mine --pairs heading --max-pairs 10000

    Example: ragcun data import corpus.jsonl --name mine --queries generated.jsonl
    """
    from ragcun_cli.commands.data_shown import show_sets
    from ragcun_cli.console import Watcher, show
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession
    from ragcun_cli.pipeline.reproduce.imports import Importing

    made = (pairs, queries, passage_words, max_pairs, test_queries, dev_queries, columns)
    how = Importing(*made, base, max_seq_length, round_trip, licence)
    session = DataSession(workspace, Watcher(), force=force, device=device, cache_gb=cache_gb)
    found = session.take_in(source, name, how)
    show(found, as_json=as_json, table=partial(show_sets, found))


@app.command()
def export(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    workspace: options.WorkspaceFolder = None,
) -> None:
    """Write a data set in BEIR layout, for other tools.

    Example: ragcun data export scifact ~/beir/scifact
    """
    from ragcun_cli.console import Watcher
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession

    DataSession(workspace, Watcher()).export(name, folder)


@app.command()
def sample(
    name: Name,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Judged queries, each split.")],
    passages: Annotated[int, typer.Option("--passages", min=1, help="Passages, judged ones too.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another draw.")] = 1,
    new: Annotated[str | None, typer.Option("--name", help="What to call it.")] = None,
    workspace: options.WorkspaceFolder = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a set of that name.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a smaller set for quick experiments; its scores are not comparable with the whole.

    Example: ragcun data sample msmarco --queries 1000 --passages 100000
    """
    from ragcun_cli.commands.data_shown import show_sets
    from ragcun_cli.console import Watcher, show
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession

    session = DataSession(workspace, Watcher(), force=force)
    found = session.sample(name, new, queries=queries, passages=passages, seed=seed)
    show(found, as_json=as_json, table=partial(show_sets, found))


@app.command()
def stats(
    name: Name,
    train: Annotated[
        str | None,
        typer.Option("--train", help="Training set to look for test texts in; itself by default."),
    ] = None,
    profile: options.Profile = None,
    workspace: options.WorkspaceFolder = None,
    as_json: options.AsJson = False,
) -> None:
    """Describe a data set: lengths, duplicates, judgements, and what of it is in training data.

    With a profile also how much of it the tokenizers of its encoders do not know.

    Example: ragcun data stats scifact --train msmarco --profile publication
    """
    from ragcun_cli.commands.data_shown import show_stats
    from ragcun_cli.console import Watcher, show
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession

    found = DataSession(workspace, Watcher()).stats(name, train, profile)
    show(found, as_json=as_json, table=partial(show_stats, found))


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="All that are here by default.")] = None,
    workspace: options.WorkspaceFolder = None,
    as_json: options.AsJson = False,
) -> None:
    """Read the files of data sets; hold them against their digests, each other and the registry.

    Example: ragcun data verify scifact
    """
    from ragcun_cli.commands.data_shown import show_sets
    from ragcun_cli.console import Watcher, show
    from ragcun_cli.pipeline.reproduce.data_sets import DataSession

    found = DataSession(workspace, Watcher()).verify(names or [])
    show(found, as_json=as_json, table=partial(show_sets, found))
