"""KILT: Wikipedia's pages as passages of 100 words, and queries that are judged by page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data.proxy.settings import Tally
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.corpus import Passage
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes, id_of, json_of, read_lines, read_objects
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import QUERIES

KILT_WORDS = 100
LARGE = 1e9
"""Bytes of a knowledge source above which they are spoken of."""

_MARK = re.compile(r"^(?:Section|BULLET)::::-?\s*")


def store_kilt(source: Path, asked: Path, draft: Path, *, progress: Progress) -> dict[str, Any]:
    """Store pages in KILT's format as a test set, and return its counts.

    Passages are 100 words of a page, ``290#7`` the seventh of page 290; all of a page that is
    evidence for a query are relevant to it. Queries keep their evidence, by answer. The source is
    read once, as a stream.

    Args:
        source: a line a page: ``wikipedia_id`` (or ``_id``), ``wikipedia_title``, ``text``, a list.
        asked: a line a query: ``id``, ``input``, ``output``, a list with ``provenance``.
        draft: where the set goes.
        progress: is told.

    Raises:
        DataError: a line is malformed, or no query has a page of the source.
    """
    if (size := source.stat().st_size if source.is_file() else 0) > LARGE:
        what = "all of which is read; its passages take about as much disk, and sorting them again"
        progress.note(f"{source.name} has {size / 1e9:.1f} GB, {what}")
    notes, tally, evidence = Notes(), Tally(), dict[str, list[list[str]]]()
    queries: dict[str, str] = {}
    for number, row in read_objects(asked, notes):
        tally.seen += 1
        name = f"q:{id_of(row.get('id'), f'{asked}:{number}', asked, notes)}"
        if found := _evidence(row, f"{asked}:{number}"):
            queries[name], evidence[name] = str(row.get("input", "")).strip(), found
        else:
            tally.leave("without provenance", name)
    counts = dict.fromkeys((page for sets in evidence.values() for one in sets for page in one), 0)
    write_corpus(_pages(source, size, counts, notes, progress), draft, source=source, notes=notes)
    qrels: beir.Qrels = {}
    for name, sets in evidence.items():
        pages = sorted({page for one in sets for page in one})
        ids = [f"{page}#{n}" for page in pages for n in range(1, counts[page] + 1)]
        if ids:
            qrels[name] = dict.fromkeys(ids, 1)
        else:
            tally.leave("whose pages are not in the source", name)
    if not qrels:
        raise DataError(f"{asked}: of {tally.seen:,} queries none is left: {tally.reasons()}")
    tally.used = len(qrels)
    kept = {name: queries[name] for name in qrels}
    metadata = {name: {"provenance": evidence[name]} for name in qrels}
    beir.write_judged(draft, queries=kept, splits={"test": qrels}, metadata=metadata)
    return {
        "about": "imported from KILT; judged by page",
        "pages": True,
        "counts": {"queries": tally.content()},
        **storing.check(draft, notes=notes).details(),
    }


def _evidence(row: Mapping[str, Any], where: str) -> list[list[str]]:
    """Pages of each answer that has any, sorted."""
    try:
        sets = [
            sorted({str(one["wikipedia_id"]).strip() for one in answer.get("provenance", ())})
            for answer in row.get("output", ())
        ]
    except (AttributeError, TypeError, KeyError) as error:
        raise DataError(f'{where}: "output" is no list of answers with "provenance"') from error
    return [one for one in sets if one]


def _pages(
    source: Path, size: int, counts: dict[str, int], notes: Notes, progress: Progress
) -> Iterator[Passage]:
    """Passages of all pages; counts those of pages that are evidence."""
    with progress.bar("read pages", total=size, unit="bytes") as step:
        for number, line in read_lines(source, notes):
            row, where = json_of(line, number, source, notes), f"{source}:{number}"
            if not isinstance(row, dict) or not isinstance(row.get("text"), list):
                raise DataError(f'{where}: expected a page with "text", a list of paragraphs')
            page = id_of(row.get("wikipedia_id", row.get("_id")), where, source, notes)
            title, text = str(row.get("wikipedia_title", "")), map(str, row["text"])
            said = (_MARK.sub("", part).strip() for part in text if part.strip() != title)
            words = " ".join(said).split()
            for first in range(0, len(words), KILT_WORDS):
                piece = " ".join(words[first : first + KILT_WORDS])
                yield Passage(f"{page}#{first // KILT_WORDS + 1}", title, piece, number)
            if page in counts:
                counts[page] = -(-len(words) // KILT_WORDS)
            step(len(line.encode()) + 1)


def read_evidence(folder: Path) -> dict[str, list[set[str]]]:
    """Query id -> pages of each answer, of a set that `store_kilt` has stored."""
    rows = read_objects(folder / QUERIES, Notes())
    return {row["_id"]: [*map(set, row["metadata"]["provenance"])] for _, row in rows}
