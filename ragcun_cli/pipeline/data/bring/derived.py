"""Data sets made of MS MARCO: other queries, the same passages, which are not stored again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ragcun_cli.core.draw import MSMARCO_SELECT, smallest
from ragcun_cli.pipeline.data.bring.download import RemoteFile, fetch
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.beir import Qrels
from ragcun_cli.pipeline.data.sets.lines import Notes, read_lines
from ragcun_cli.pipeline.data.sets.records import borrow, read_record
from ragcun_cli.pipeline.data.sources import Derived
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import Workspace

Files = Mapping[str, Path]
Judged = tuple[dict[str, str], Qrels]


def derive(
    name: str, source: Derived, draft: Path, *, workspace: Workspace, progress: Progress
) -> dict[str, Any]:
    """Write a set's queries and judgements, borrow its passages, and return its counts.

    Raises:
        DataError: a file cannot be had, or the set is not the one that the registry knows.
    """
    msmarco = workspace.dataset(source.of)
    files = {
        key: fetch(
            RemoteFile(**{**values, "urls": tuple(values["urls"])}),
            workspace.downloads / f"{name}-{key}",
            progress=progress,
            label=f"download {name} {key}",
        )
        for key, values in source.files.items()
    }
    queries, qrels = _MAKERS[name](msmarco, files, source)
    kept = {query: text for query, text in queries.items() if query in qrels}
    read_record(msmarco).write(draft)
    borrow(draft, msmarco)
    beir.write_judged(draft, queries=kept, splits={source.split: qrels})
    counts = storing.check(draft, published=True, datasets=workspace.datasets)
    _check(name, source, counts, qrels)
    for file in files.values():
        file.unlink()
    return {"origin": source.of, "verified": "counts", **counts.details()}


def _check(name: str, source: Derived, counts: storing.Counts, qrels: Qrels) -> None:
    judgements = sum(map(len, qrels.values()))
    if counts.queries != source.queries or source.judgements not in (None, judgements):
        expected = "any" if source.judgements is None else f"{source.judgements:,}"
        raise DataError(
            f"'{name}' has {counts.queries:,} queries and {judgements:,} judgements, not "
            f"{source.queries:,} and {expected}",
            hint=f"ragcun data verify {source.of}",
        )


def _dl_2019(msmarco: Path, files: Files, source: Derived) -> Judged:
    """The test judgements of BEIR's MS MARCO are those of TREC DL 2019."""
    return beir.read_queries(msmarco), beir.read_qrels(msmarco, "test")


def _dl_2020(msmarco: Path, files: Files, source: Derived) -> Judged:
    notes = Notes()
    rows = (line.split("\t") for _, line in read_lines(files["queries"], notes))
    queries = {query: text for query, text in rows}
    qrels: Qrels = {}
    for _, line in read_lines(files["qrels"], notes):
        query, _, passage, grade = line.split()
        qrels.setdefault(query, {})[passage] = int(grade)
    return queries, qrels


def _select(msmarco: Path, files: Files, source: Derived) -> Judged:
    """Training queries with a relevant passage, none with the words of one that is reported."""
    texts = beir.read_queries(msmarco)
    splits = beir.read_splits(msmarco)
    reported = {
        beir.words(texts[query]) for split in ("dev", "test") for query in splits.get(split, {})
    }
    free = (
        query
        for query, judged in splits["train"].items()
        if max(judged.values()) > 0 and beir.words(texts[query]) not in reported
    )
    chosen = smallest(MSMARCO_SELECT, free, source.queries)
    return texts, {query: splits["train"][query] for query in sorted(chosen)}


_MAKERS: dict[str, Callable[[Path, Files, Derived], Judged]] = {
    "msmarco-select": _select,
    "trec-dl-2019": _dl_2019,
    "trec-dl-2020": _dl_2020,
}
