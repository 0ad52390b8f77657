"""Make the data sets that are made of what is installed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data.pydocs.pairs import Pair, choose_pairs, library_version, read_pairs
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sources import Docstrings
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.machine.stops import locked
from ragcun_cli.spec.manifest import write_atomically
from ragcun_cli.spec.marks import is_marked, mark, read_marked
from ragcun_cli.spec.paths import Workspace


def library_versions(source: Docstrings) -> dict[str, str]:
    """Import name -> installed version, of the libraries a set is made of."""
    return {library: library_version(library) for library in source.libraries}


def build_docstrings(
    source: Docstrings,
    draft: Path,
    *,
    workspace: Workspace,
    numbers_version: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write a set of docstring pairs in BEIR layout and return its counts and versions."""
    corpus: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, beir.Qrels] = {}
    versions = library_versions(source)
    for library, version in versions.items():
        cache = workspace.docstrings(library, f"{version}-{numbers_version}")
        pairs = choose_pairs(_cached_pairs(library, cache, progress), limit=source.limit)
        for pair in pairs:
            corpus[pair.id] = pair.passage
            queries[pair.query_id] = pair.query
        for split, members in _splits(pairs, source).items():
            judged = {pair.query_id: {pair.id: 1} for pair in members}
            qrels.setdefault(split, {}).update(judged)
    beir.write_set(draft, corpus=corpus, queries=queries, qrels=qrels)
    return {"libraries": versions, **storing.check(draft).details()}


def _splits(pairs: list[Pair], source: Docstrings) -> dict[str, list[Pair]]:
    if source.dev_queries is None:
        return {"test": pairs}
    dev = choose_pairs(pairs, limit=source.dev_queries // len(source.libraries))
    held = {pair.id for pair in dev}
    return {"train": [pair for pair in pairs if pair.id not in held], "dev": dev}


def _cached_pairs(library: str, cache: Path, progress: Progress) -> list[Pair]:
    """Parsing takes up to half a minute for a large library, and its version decides the result."""
    if not is_marked(cache):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with locked(cache.with_name(f".{cache.name}.lock")):
            if not is_marked(cache):  # another process may have parsed it meanwhile
                pairs = read_pairs(library, progress=progress)
                lines = (json.dumps(asdict(pair), ensure_ascii=True) + "\n" for pair in pairs)
                write_atomically(cache, "".join(lines))
                mark(cache)
    return [Pair(**json.loads(line)) for line in read_marked(cache).decode().splitlines()]
