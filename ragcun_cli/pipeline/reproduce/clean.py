"""What of a workspace can be made again, and what stops left: found, counted and removed.

Removed are caches that no run uses, and what stops left of finished work. Kept are caches that a
run uses, everything that finished stages recorded, what an unfinished stage or download goes on
from, and earlier models, which cannot be made again.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ragcun_cli.core.folders import discard
from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.machine.kernels import kernels_folder
from ragcun_cli.pipeline.stages.runner import DRAFT_RECIPE
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import Manifest
from ragcun_cli.spec.marks import MARK
from ragcun_cli.spec.paths import Workspace

INDEXED_A_SECOND = 20_000
"""Passages that BM25 indexes on two cores (docs/RESULTS.md)."""
READ_SECONDS = 30.0
"""To read the docstrings of a large library."""
OLD_KERNELS = 86_400.0
"""Seconds since their last use after which kernels are taken for those of an older version."""
USED, GOES_ON = "used", "a stage goes on from it"
REMOVED = UNUSED, LEFT = "unused", "left over"
"""States of what is removed."""
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_CORPUS = Path(paths.CORPUS_RECORD).name
_SECTIONS = {"bm25": "mining", "embeddings": "evaluation", "base-outputs": None}
"""Cache -> section of a profile that its settings are of."""
_MADE_OF = ("corpus", "model", "encoder")
"""Keys of what says what a cache is of, with digests."""


@dataclass(frozen=True)
class Remains:
    """A folder or a file that can be made again, or that was left over."""

    what: str
    place: Path
    state: str
    seconds: float | None
    """To make it again; None where that is not known."""
    locks: tuple[Path, ...] = ()
    """Held by whoever writes it."""

    def row(self) -> dict[str, Any]:
        """As JSON, with its bytes on disk."""
        files = [file for file in (self.place, *_below(self.place)) if file.is_file()]
        counts = {"bytes": sum(file.stat().st_size for file in files), "seconds": self.seconds}
        return {"what": self.what, "place": str(self.place), "state": self.state, **counts}

    def remove(self) -> str:
        """Remove it unless somebody holds a lock of it; a process that has mapped it reads on."""
        with ExitStack() as held:
            try:
                for lock in self.locks:
                    held.enter_context(FileLock(lock, timeout=0))
            except OSError:  # held by another, or of a folder that cannot be written
                return "in use, kept"
            self.place.with_name(f"{self.place.name}{MARK}").unlink(missing_ok=True)
            if self.place.is_dir():
                discard(self.place)
            self.place.unlink(missing_ok=True)
        return "removed"


class Inventory:
    """What lies in a workspace beside what finished stages recorded."""

    def __init__(self, workspace: Workspace, runs: Sequence[Run], bases: Iterable[str]) -> None:
        """Look through a workspace.

        Args:
            workspace: with its data.
            runs: whose caches are used.
            bases: digests of their base encoders.
        """
        self._workspace, self._runs = workspace, runs
        roots = (workspace.root, workspace.data)
        self._paths = sorted({path for root in roots for path in _below(root)})
        files = [path for path in self._paths if path.name in (paths.MANIFEST, _CORPUS)]
        manifests = [file for file in files if file.name == paths.MANIFEST]
        self._manifests = {file.parent: Manifest.load(file) for file in manifests}
        self._records = [one for each in self._manifests.values() for one in each.stages.values()]
        self._text = "\n".join([*bases, *map(_read, files)])

    def remains(self) -> list[Remains]:
        """All of it, by place."""
        found = [*self._caches(), *self._docstrings(), *self._downloads(), *self._left()]
        return sorted([*found, *_kernels()], key=lambda one: one.place)

    def _caches(self) -> Iterator[Remains]:
        known = {*_DIGEST.findall(self._text)}
        for kind, section in _SECTIONS.items():
            settings = [getattr(one.profile, section).model_dump() for one in self._runs if section]
            for folder in (self._workspace.caches[0] / kind).glob("[!.]*"):
                index = _index(folder)
                made_of = _DIGEST.findall(json.dumps([index.get(key) for key in _MADE_OF]))
                fits = section is None or any(
                    all(index[key] == one[key] for key in index.keys() & one) for one in settings
                )
                used = fits and bool(made_of) and known.issuperset(made_of)
                locks = (folder / ".lock", *folder.parent.glob(".*.lock"))
                seconds = self._seconds(index)
                yield Remains(kind, folder, USED if used else UNUSED, seconds, locks)

    def _seconds(self, index: Mapping[str, Any]) -> float | None:
        """By the number of passages, or as long as a stage took that encoded for it, at most."""
        if "passages" in index:
            return float(index["passages"] / INDEXED_A_SECOND)
        took = []
        for one in self._records:
            if one.details.get("model", "") == index.get("model"):
                took.append(one.seconds)
            elif one.details.get("encoder", {}).get("digests", "") == index.get("encoder"):
                took.append((one.details.get("frozen_base") or {}).get("seconds", 0.0))
        return max(took, default=None)

    def _docstrings(self) -> Iterator[Remains]:
        for file in (self._workspace.caches[1] / "pydocs").glob("[!.]*.jsonl"):
            name, version, _ = file.stem.rsplit("-", 2)
            state = USED if f'"{name}": "{version}"' in self._text else UNUSED
            locks = (file.with_name(f".{file.name}.lock"),)
            yield Remains("docstrings", file, state, READ_SECONDS, locks)

    def _downloads(self) -> Iterator[Remains]:
        for place in self._workspace.downloads.glob("[!.]*"):
            names = [name for name in sources.BEIR if place.name.startswith(f"{name}.")]
            names += [name for name in sources.DERIVED if place.name.startswith(f"{name}-")]
            folders = [self._workspace.dataset(name) for name in names]
            done = any(folder in self._manifests for folder in folders)
            locks = tuple(folder / ".data.lock" for folder in folders if done)
            yield Remains("download", place, LEFT if done else GOES_ON, None, locks)

    def _left(self) -> Iterator[Remains]:
        """What stops left of drafts and of folders, and models that were kept aside."""
        for place in self._paths:
            lock = place.with_suffix(".lock")
            if place.suffix == ".draft" and place.is_dir() and lock.exists():
                stages = self._manifests.get(place.parent, Manifest()).stages.values()
                done = _read(place / DRAFT_RECIPE) in ["", *(one.recipe for one in stages)]
                yield Remains("draft", place, LEFT if done else GOES_ON, 0.0, (lock,))
            elif place.suffix in (".whole", ".discarded"):
                lock = place.with_name(place.stem[1:]) / ".data.lock"
                yield Remains("what a stop left", place, LEFT, 0.0, (lock,) * lock.exists())
        for folder in self._manifests:
            if ".kept-" in folder.name:
                yield Remains("earlier model", folder, "cannot be made again", None)


def _below(folder: Path) -> Iterator[Path]:
    """All that lies in it, but for what goes away meanwhile."""
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def _read(file: Path) -> str:
    """Its text; nothing where it is not there any more."""
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""


def _index(folder: Path) -> dict[str, Any]:
    """What a cache says that it is of; nothing where it does not."""
    with suppress(ValueError):
        return dict(json.loads(_read(folder / "index.json") or _read(folder / "recipe.json")))
    return {}


def _kernels() -> Iterator[Remains]:
    for place in (own := kernels_folder()).parent.glob("*"):
        if place != own:
            old = time.time() - place.stat().st_mtime > OLD_KERNELS
            yield Remains("kernels", place, UNUSED if old else USED, None)
