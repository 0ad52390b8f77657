"""Store a data set of passages and of queries made for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ragcun_cli.core.draw import PROXY_DOCUMENTS, smallest
from ragcun_cli.pipeline.data.bring.user_tables import text_id
from ragcun_cli.pipeline.data.proxy.documents import document_of, read_documents, read_folder
from ragcun_cli.pipeline.data.proxy.pairs import PairMaker
from ragcun_cli.pipeline.data.proxy.settings import MOST_DEV, MOST_TEST, SAID, PairSettings
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.beir import Qrels
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError

Keep = Callable[[Path, Mapping[str, str], Qrels], tuple[Collection[str], dict[str, Any]]]
"""Folder of a set, its queries and its judgements -> queries to keep, and what is remembered."""


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
    notes, made = Notes(), PairMaker(settings)
    if source.is_dir():
        documents = [*read_folder(source, made.tallies["files"], progress)]
    else:
        documents = [*read_documents(source, settings.columns, made.tallies["rows"], notes)]
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
    remembered: dict[str, Any] = {}
    if keep is not None:
        found, remembered = keep(draft, *_judged(made))
        stays = (text_id("q", pair.query) in found for pair in made.asked)
        made.sift(stays, "whose passage the base ranks too low")
        _refuse_no_pair(source, made)
    queries, qrels = _judged(made)
    made.tallies["pairs"].used = len(queries)
    try:
        splits = _split(source, qrels, settings)
    except DataError:
        for said in (*notes.lines(), *(tally.line(kind) for kind, tally in made.tallies.items())):
            progress.note(said)
        raise
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


def _refuse_no_pair(source: Path, made: PairMaker) -> None:
    tally = made.tallies["pairs"]
    if not made.asked:
        raise DataError(
            f"{source}: of {tally.seen:,} pairs none is left: {tally.reasons()}",
            hint="another --pairs, or --queries FILE; docs/DATA.md says what leaves a pair out",
        )


def _judged(made: PairMaker) -> tuple[dict[str, str], Qrels]:
    """Queries and judgements, in the order of the queries' ids."""
    named = sorted((text_id("q", pair.query), pair) for pair in made.asked)
    qrels = {name: dict.fromkeys(sorted(pair.bodies), 1) for name, pair in named}
    return {name: pair.query for name, pair in named}, qrels


def _split(source: Path, qrels: Qrels, settings: PairSettings) -> dict[str, Qrels]:
    """Split -> judgements: documents are held out by digest, as long as all of their pairs fit.

    A split into which none fits takes the document of the fewest pairs.

    Raises:
        DataError: there are too few documents, or queries.
    """
    of: dict[str, list[str]] = defaultdict(list)
    for query, judged in qrels.items():
        of[document_of(next(iter(judged)))].append(query)
    tenth, free = max(1, len(qrels) // 10), smallest(PROXY_DOCUMENTS, of, len(of))
    splits: dict[str, list[str]] = {}
    for split, asked, most in (
        ("test", settings.test_queries, MOST_TEST),
        ("dev", settings.dev_queries, MOST_DEV),
    ):
        if not (room := min(most, tenth) if asked is None else asked):
            continue
        taken = list[str]()
        for name in free:
            if len(of[name]) <= room:
                taken.append(name)
                room -= len(of[name])
        taken = taken or sorted(free, key=lambda name: len(of[name]))[:1]
        free = [name for name in free if name not in {*taken}]
        splits[split] = [query for name in taken for query in of[name]]
    if not free:
        pairs, documents = ((len(some), "s" * (len(some) > 1)) for some in (qrels, of))
        raise DataError(
            f"{source}: {pairs[0]:,} pair{pairs[1]} of {documents[0]:,} document{documents[1]} "
            f"('{next(iter(of))}': a passage's document is its id without #n), split by document, "
            f"leave none to train on beside {' and '.join(splits)}",
            hint=f"{' '.join(f'--{split}-queries 0' for split in splits)}, or more documents",
        )
    splits["train"] = [query for name in free for query in of[name]]
    return {
        split: {query: qrels[query] for query in sorted(some)} for split, some in splits.items()
    }
