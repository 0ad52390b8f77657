"""Bring a published data set here: download, unpack, store, and hold it against the registry."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragcun_cli.core.folders import discard
from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.bring.archives import unpack
from ragcun_cli.pipeline.data.bring.download import RemoteFile, fetch
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.lending import share_with_like
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.pipeline.data.sources import PublishedSet
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.addresses import file_address, shown
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import CORPUS, Workspace

_LARGEST_GROWTH = 20  # times the zip; BEIR's texts shrink to about a third


@dataclass(frozen=True)
class _Origin:
    """One place that has the set."""

    name: str
    proof: str
    """What of it is checked beside the counts."""

    bring: Callable[[Path], dict[str, Path]]
    """Puts BEIR folders below a scratch folder: part of the set -> its folder."""

    archive: Path | None = None
    """What is downloaded, once it is whole."""


def get_published(
    name: str,
    source: PublishedSet,
    draft: Path,
    *,
    workspace: Workspace,
    mirrors: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    """Put a set's files into a draft folder, and return its counts and where it came from.

    Asked in turn: the mirrors that are named, whose zips may be packed anew; BEIR's own host, whose
    zips are known to the byte; the Hub, at a pinned revision. Whatever came has to have the
    published counts, and the published passages where their digest is known.

    Raises:
        DataError: it cannot be had, or is not the set that the registry knows.
    """
    reasons: list[str] = []
    for origin in _origins(name, source, workspace.downloads, mirrors, progress):
        if reasons:
            progress.note(f"{name}: {reasons[-1]}; {origin.name} is asked")
        try:
            counts = _store(name, source, origin, draft)
        except DataError as error:
            said = str(error)
            reasons.append(said if origin.name in said else f"{origin.name}: {said}")
            continue
        _clean(name, workspace.downloads)
        share_with_like(source, draft, workspace.datasets, progress=progress)
        proof = f"{origin.proof}, passages" if source.passages_sha256 else origin.proof
        return {"origin": origin.name, "verified": proof, **counts}
    folder = workspace.dataset(name)
    raise DataError(
        f"'{name}' could not be had; the last that was asked: {reasons[-1]}",
        hint=f"ragcun data get {name} where there is a network, and its folder copied to {folder}",
    )


def _origins(
    name: str, source: PublishedSet, downloads: Path, mirrors: Sequence[str], progress: Progress
) -> Iterator[_Origin]:
    def from_zip(file: RemoteFile, target: Path) -> Callable[[Path], dict[str, Path]]:
        def bring(scratch: Path) -> dict[str, Path]:
            archive = fetch(file, target, progress=progress, label=f"download {name}")
            unpack(archive, scratch, max_bytes=_LARGEST_GROWTH * archive.stat().st_size)
            return _folders(scratch, source, archive.name)

        return bring

    def from_hub(scratch: Path) -> dict[str, Path]:
        from ragcun_cli.pipeline.data.bring.hub import fetch_set

        folders = {part: downloads / f"{name}.hub" / part for part in source.hub}
        for part, (repo, revision) in source.hub.items():
            fetch_set(repo, revision, folders[part], progress=progress)
        return folders

    for mirror in mirrors:
        url = file_address(mirror, f"{name}.zip")
        mark = hashlib.sha256(shown(url).encode()).hexdigest()[:8]
        target = downloads / f"{name}.mirror-{mark}.zip"
        yield _Origin(_host(url), "counts", from_zip(RemoteFile((url,)), target), target)
    url = sources.HOST.format(name=name)
    file = RemoteFile((url,), size=source.zip_bytes, md5=source.zip_md5)
    target = downloads / f"{name}.zip"
    yield _Origin(_host(url), "md5, counts", from_zip(file, target), target)
    if source.hub:
        revisions = {f"{repo}@{revision}" for repo, revision in source.hub.values()}
        yield _Origin(", ".join(sorted(revisions)), "revision, counts", from_hub)


def _host(url: str) -> str:
    """What a record may say of an address: no path of this machine."""
    host = re.fullmatch(r"([\w+.-]*:)?//([^/?#]*@)?([^/?#]*).*", shown(url))
    return (host and host[3]) or "a local mirror"


def _folders(scratch: Path, source: PublishedSet, archive: str) -> dict[str, Path]:
    """Part of the set -> the folder that was unpacked for it.

    Raises:
        DataError: one is missing.
    """
    found = {file.parent.name: file.parent for file in scratch.rglob(CORPUS)}
    if not source.forums:
        folder = next(iter(found.values()), None)
        if folder is None:
            raise DataError(f"{archive} holds no {CORPUS}")
        return {"": folder}
    if missing := [forum for forum in source.forums if forum not in found]:
        raise DataError(f"{archive} holds no {CORPUS} of {', '.join(missing)}")
    return {forum: found[forum] for forum in source.forums}


def _store(name: str, source: PublishedSet, origin: _Origin, draft: Path) -> dict[str, Any]:
    scratch = draft / "scratch"
    try:
        folders = origin.bring(scratch)
        counts = storing.added(
            [
                storing.store(folder, draft / part, published=True)
                for part, folder in folders.items()
            ]
        )
        check_published(name, source, draft, counts)
    except DataError:
        for left in (path for path in draft.iterdir() if path.is_dir()):
            discard(left)
        if origin.archive is not None:  # whole, and wrong: not to be taken for the right one
            origin.archive.unlink(missing_ok=True)
        raise
    discard(scratch)
    return counts.details()


def _clean(name: str, downloads: Path) -> None:
    discard(downloads / f"{name}.hub")
    for archive in [*downloads.glob(f"{name}.zip*"), *downloads.glob(f"{name}.mirror-*.zip*")]:
        archive.unlink()


def check_published(name: str, source: PublishedSet, folder: Path, counts: storing.Counts) -> None:
    """Hold what is stored in a folder against the registry.

    Raises:
        DataError: a count differs, or the digest of the passages; all that do are named.
    """
    if wrong := differences(source, folder, counts):
        raise DataError(
            f"'{name}' is not the published set: {'; '.join(wrong)}",
            hint=f"ragcun data get {name} --force",
        )


def differences(source: PublishedSet, folder: Path, counts: storing.Counts) -> list[str]:
    """In what a stored set differs from the published one."""
    judged = [beir.read_qrels(part, source.split) for part in beir.parts(folder)]
    queries = sum(map(len, judged))
    relevant = sum(
        grade > 0 for qrels in judged for grades in qrels.values() for grade in grades.values()
    )
    seen: dict[str, tuple[float, float | None]] = {
        "passages": (counts.passages, source.passages),
        f"queries judged in {source.split}": (queries, source.queries),
        "relevant passages a query": (round(relevant / queries, 1), source.relevant_per_query),
        f"relevant pairs in {source.split}": (relevant, source.relevant_pairs),
    }
    if source.train_queries is not None:
        seen["queries judged in train"] = (counts.judged.get("train", 0), source.train_queries)
    wrong = [
        f"{count:,} {what}, not {expected:,}"
        for what, (count, expected) in seen.items()
        if expected is not None and count != expected
    ]
    if source.passages_sha256 is not None and not wrong:
        digest = read_record(folder).sha256
        if digest != source.passages_sha256:
            wrong.append(f"passages with sha256 {digest}, not {source.passages_sha256}")
    return wrong
