"""Keep compiled kernels between commands, in a folder of the user's cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import ragcun_cli
from ragcun_cli.spec.errors import RagcunError
from ragcun_cli.spec.paths import path_of


def kernels_folder() -> Path:
    """Where kernels of this very source are kept: numba itself would miss a change in another file.

    Raises:
        RagcunError: the cache of a user who is not known.
    """
    digest = hashlib.sha256()
    for file in sorted((Path(ragcun_cli.__file__).parent / "core").rglob("*.py")):
        digest.update(file.read_bytes())
    cache = path_of(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return cache / "ragcun" / "kernels" / digest.hexdigest()[:16]


def keep_kernels() -> None:
    """Name numba a folder for what it compiles, before it is imported.

    Its time is that of its last use. Where none can be written, kernels are compiled in each
    process.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    try:
        folder = kernels_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            folder.touch()
    except (OSError, RagcunError):
        return
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
