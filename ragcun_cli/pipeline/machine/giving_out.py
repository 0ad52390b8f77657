"""A disk or a memory that gave out, whichever library noticed it first."""

from __future__ import annotations

import errno
import os
import re
import shlex
from pathlib import Path

from ragcun_cli.spec.errors import (
    DiskFullError,
    RagcunError,
    StageFailedError,
    WorkspaceError,
    first_line,
)

_NO_MEMORY = re.compile("out of memory|can't allocate memory|Unable to allocate")
"""As PyTorch on a GPU, PyTorch on a CPU and NumPy have it."""

_UNWRITTEN = re.compile(r" requested and |os error \d|inline_container")
"""As NumPy, safetensors and PyTorch have it, which give no number of the error."""


def of_memory(error: Exception) -> bool:
    """Whether an error says that memory gave out."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


def gave_out(error: Exception, *, stage: str = "", folder: Path = Path()) -> RagcunError | None:
    """What to say of a disk or a memory that gave out; None of another error, which is a bug.

    Args:
        error: of anybody's code.
        stage: that it ended; empty outside of all.
        folder: that was read or written, where the error names no file.
    """
    kind: type[RagcunError] = StageFailedError if stage else WorkspaceError
    what = f"'{stage}'" if stage else "ragcun"
    said = first_line(error)
    if of_memory(error):
        smaller = "--set training.mini_batch_size=8 --set evaluation.batch_size=8, or smaller"
        return kind(f"{what} ran out of memory: {said}", hint=smaller)
    nameless = bool(_UNWRITTEN.search(said))
    if not isinstance(error, OSError) and not nameless:
        return None
    look = ["df", "-h", str(folder)]
    if not nameless and getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
        file = Path(str(getattr(error, "filename", None) or folder)).absolute()
        there = next(path for path in (file, *file.parents) if os.path.exists(path))  # noqa: PTH110
        look = ["ls", "-ld", str(there)]
    elif stage:
        kind = DiskFullError
    return kind(f"{what} could not read or write its files: {said}", hint=shlex.join(look))
