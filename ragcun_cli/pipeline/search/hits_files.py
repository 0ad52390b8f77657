"""What a search has found so far, in a file that is whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ragcun_cli.core.search.ranking import Hits
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import replaced
from ragcun_cli.spec.marks import mark, read_marked


def write_hits(file: Path, found: Mapping[str, Hits], *, done: int = 0) -> None:
    """Replace the file in one step.

    Args:
        file: an `.npz`.
        found: hits by name.
        done: how many blocks they are of.
    """
    arrays: dict[str, Any] = {"done": np.int64(done)}
    for name, hits in found.items():
        arrays |= {f"{name}:rows": hits.rows, f"{name}:scores": hits.scores}
    with replaced(file) as stream:
        np.savez(stream, **arrays)
    mark(file)


def read_hits(file: Path) -> tuple[dict[str, Hits], int] | None:
    """The hits by name and how many blocks they are of; None where nothing whole is there.

    A file that was damaged is none: the search that wrote it then begins again.
    """
    try:
        with np.load(BytesIO(read_marked(file))) as kept:
            names = [name.removesuffix(":rows") for name in kept.files if name.endswith(":rows")]
            found = {name: Hits(kept[f"{name}:rows"], kept[f"{name}:scores"]) for name in names}
            return found, int(kept["done"])
    except WorkspaceError:
        return None
