"""Store a data set of passages and of queries made for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ragcun_cli.core.draw import PROXY_DOCUMENTS, smallest
from ragcun_cli.pipeline.data.proxy.documents import document_of, read_folder, read_rows
from ragcun_cli.pipeline.data.proxy.pairs import Pairs
from ragcun_cli.pipeline.data.proxy.settings import MOST_DEV, MOST_TEST, SAID, PairSettings
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.beir import Qrels
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError

Keep = Callable[[Path, Mapping[str, str], Qrels], tuple[Collection[str], dict[str, Any]]]
"""Folder of a set, its queries and its judgements -> queries to keep, and what is remembered."""

BELOW = "whose passage the base ranks too low"


def make_pairs(
    source: Path, draft: Path, settings: PairSettings, *, keep: Keep | None, progress: Progress
) -> dict[str, Any]:
    """Store passages of documents with queries that ask for them, and return the counts.

    All pairs of a document are in the same split.

    Args:
        source: a folder of Markdown, plain text and HTML, or a table.
        draft: where the set goes.
        settings: what pairs are.
        keep: asked once the passages are stored which pairs stay; None keeps all.
        progress: is told.

    Raises:
        DataError: a file is malformed, or no pair is left, or those left are of too few documents.
    """
    notes, made = Notes(), Pairs(settings)
    if source.is_dir():
        documents = [*read_folder(source, made.tallies["files"], progress)]
    else:
        documents = [*read_rows(source, settings.columns, made.tallies["rows"], notes)]
    if not documents:
        why = "".join(tally.reasons() for tally in made.tallies.values()) or "it is empty"
        raise DataError(
            f"{source} has no document that can be read: {why}",
            hint="a folder with files that end in .md, .txt or .html in UTF-8, or a table",
        )
    with progress.bar("cut passages", total=len(documents), unit="documents") as step:
        for document in documents:
            made.add(document)
            step(1)
    if settings.queries is not None:
        made.read(settings.queries, notes)
    made.guard(progress)
    _refuse_no_pair(source, made)
    write_corpus(made.passages.values(), draft, source=source, notes=notes)
    queries, qrels = _named(made)
    tally, remembered = made.tallies["pairs"], dict[str, Any]()
    if keep is not None:
        kept, remembered = keep(draft, queries, qrels)
        for name in sorted(queries.keys() - kept):
            tally.leave(BELOW, queries[name])
        queries = {name: text for name, text in queries.items() if name in kept}
        made.asked = [pair for pair in made.asked if pair.query in {*queries.values()}]
        _refuse_no_pair(source, made)
    tally.used = len(queries)
    splits = _split(source, {name: qrels[name] for name in queries}, settings)
    beir.write_judged(draft, queries=queries, splits=splits)
    said = SAID[settings.kind]
    return {
        "about": f"imported; proxy queries: passages are asked for by {said}",
        "proxy": {
            "queries": said,
            "passage_words": settings.passage_words,
            "give_aways": sum(pair.give_aways for pair in made.asked),
            "counts": {kind: tally.content() for kind, tally in made.tallies.items()},
        },
        **remembered,
        **storing.check(draft, notes=notes).details(),
    }


def _refuse_no_pair(source: Path, made: Pairs) -> None:
    tally = made.tallies["pairs"]
    if not made.asked:
        raise DataError(
            f"{source}: of {tally.seen:,} pairs none is left: {tally.reasons()}",
            hint="another --pairs, or --queries FILE; docs/DATA.md says what leaves a pair out",
        )


def _named(made: Pairs) -> tuple[dict[str, str], Qrels]:
    """Queries and judgements by the query's id, which is no passage's: `q:guide/install.md#3`."""
    prefix = "q:"
    while any(name.startswith(prefix) for name in made.passages):
        prefix = f"q{prefix}"
    queries: dict[str, str] = {}
    qrels: Qrels = {}
    for pair in made.asked:
        name = first = f"{prefix}{next(iter(pair.bodies))}"
        number = 1
        while name in queries:
            number += 1
            name = f"{first}:{number}"
        queries[name] = pair.query
        qrels[name] = dict.fromkeys(sorted(pair.bodies), 1)
    ordered = sorted(queries)
    return {name: queries[name] for name in ordered}, {name: qrels[name] for name in ordered}


def _split(source: Path, qrels: Qrels, settings: PairSettings) -> dict[str, Qrels]:
    """Split -> judgements: documents are held out by digest, as long as all of their pairs fit.

    A split into which none fits takes the document of the fewest pairs.

    Raises:
        DataError: there are too few documents, or queries.
    """
    of: dict[str, list[str]] = defaultdict(list)
    for query, judged in qrels.items():
        of[document_of(next(iter(judged)))].append(query)
    tenth = max(1, len(qrels) // 10)
    asked = {"test": settings.test_queries, "dev": settings.dev_queries}
    most = {"test": min(MOST_TEST, tenth), "dev": min(MOST_DEV, tenth)}
    wanted = {split: most[split] if count is None else count for split, count in asked.items()}
    held = {split: count for split, count in wanted.items() if count}
    free = smallest(PROXY_DOCUMENTS, of, len(of))
    splits: dict[str, list[str]] = {}
    for split, count in held.items():
        room, taken = count, list[str]()
        for name in free:
            if len(of[name]) <= room:
                room -= len(of[name])
                taken.append(name)
        taken = taken or [min(free, key=lambda name: len(of[name]))] if free else []
        free = [name for name in free if name not in {*taken}]
        splits[split] = [query for name in taken for query in of[name]]
    if not free:
        options = " ".join(f"--{split}-queries 0" for split in held)
        said = " and ".join(f"{count:,} for {split}" for split, count in held.items())
        raise DataError(
            f"{source}: {len(qrels):,} pairs of {len(of):,} documents, split by document, leave "
            f"none to train on beside {said}",
            hint=f"{options}, or more documents",
        )
    splits["train"] = [query for name in free for query in of[name]]
    return {
        split: {query: qrels[query] for query in sorted(some)} for split, some in splits.items()
    }
