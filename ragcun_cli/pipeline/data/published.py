"""Bring a published data set here: download, unpack, and hold it against the registry."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data import beir
from ragcun_cli.pipeline.data.archives import unpack
from ragcun_cli.pipeline.data.download import RemoteFile, fetch
from ragcun_cli.pipeline.data.sources import HOST, Published
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import CORPUS, QRELS, QUERIES

_LARGEST_GROWTH = 20  # times the zip; BEIR's texts shrink to about a third


def get_published(
    name: str,
    source: Published,
    draft: Path,
    *,
    downloads: Path,
    mirrors: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    """Put a set's files into a draft folder, and return its counts.

    Args:
        name: of the set, and of its zip and the folder in it.
        source: its size and checksum.
        draft: where its files go.
        downloads: keeps the zip until the set is whole, so that a second try goes on.
        mirrors: addresses of folders with the zips, asked before BEIR's own host.
        progress: told of the download.

    Raises:
        DataError: it cannot be had, or is not the set that the registry knows.
    """
    if not source.downloadable or source.zip_bytes is None:
        raise DataError(f"'{name}' cannot be downloaded: {why_not(source)}")
    urls = [f"{mirror.rstrip('/')}/{name}.zip" for mirror in mirrors]
    file = RemoteFile((*urls, HOST.format(name=name)), size=source.zip_bytes, md5=source.zip_md5)
    archive = fetch(file, downloads / f"{name}.zip", progress=progress, label=f"download {name}")
    unpacked = draft / "unpacked"
    unpack(archive, unpacked, max_bytes=_LARGEST_GROWTH * source.zip_bytes)
    inside = next((file.parent for file in unpacked.rglob(CORPUS)), None)
    if inside is None:
        raise DataError(f"{archive.name} holds no {CORPUS}")
    for part in (CORPUS, QUERIES, QRELS):
        (inside / part).replace(draft / part)
    shutil.rmtree(unpacked)
    counts = beir.check(draft)
    check_counts(name, source, draft, counts)
    archive.unlink()
    return asdict(counts)


def why_not(source: Published) -> str:
    """Why ragcun cannot bring a set."""
    if source.forums:
        return f"it is {len(source.forums)} sets with passages of their own, not handled yet"
    return f"it needs {source.obtain}; then ragcun data import FOLDER --name NAME"


def check_counts(name: str, source: Published, folder: Path, counts: beir.Counts) -> None:
    """Hold what lies in a folder against the registry.

    Raises:
        DataError: a count differs; all that do are named.
    """
    qrels = beir.read_qrels(folder, source.split)
    relevant = sum(grade > 0 for judged in qrels.values() for grade in judged.values())
    seen = {
        "passages": (counts.passages, source.passages),
        f"queries judged in {source.split}": (len(qrels), source.queries),
        f"relevant pairs in {source.split}": (relevant, source.relevant_pairs),
    }
    if source.train_queries is not None:
        seen["queries judged in train"] = (counts.judged.get("train", 0), source.train_queries)
    wrong = [
        f"{count:,} {what}, not {expected:,}"
        for what, (count, expected) in seen.items()
        if expected is not None and count != expected
    ]
    if wrong:
        raise DataError(
            f"'{name}' is not the published set: {'; '.join(wrong)}",
            hint=f"ragcun data get {name} --force",
        )
