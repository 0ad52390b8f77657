"""What a search has found so far, in a file that is whole or not there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ragcun_cli.core.ranking import Hits


def write_hits(file: Path, hits: Hits, *, done: int = 0) -> None:
    """Replace the file in one step.

    Args:
        file: an `.npz`.
        hits: to keep.
        done: how many blocks they are of.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    with draft.open("wb") as stream:
        np.savez(stream, rows=hits.rows, scores=hits.scores, done=np.int64(done))
    draft.replace(file)


def read_hits(file: Path) -> tuple[Hits, int] | None:
    """The hits and how many blocks they are of; None where nothing whole is there.

    A file that was damaged is none: the search that wrote it then begins again.
    """
    try:
        with np.load(file) as kept:
            return Hits(rows=kept["rows"], scores=kept["scores"]), int(kept["done"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
