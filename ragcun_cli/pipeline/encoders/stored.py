"""Embeddings of many texts in one file, of which a stop leaves all whole blocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import WorkspaceError

TEXTS_AT_ONCE = 8192
WORTH_SAYING = 1e9
"""Bytes above which a file is spoken of."""


def store_embeddings(
    file: Path,
    texts: Sequence[str],
    encode: Callable[[Sequence[str]], Tensor],
    *,
    label: str,
    progress: Progress,
) -> NDArray[np.float32]:
    """``(n, d)`` fp32 embeddings in the order of the texts, mapped from a `.npy` file.

    Each block of texts is encoded and on disk before the next one is read, so that memory does not
    grow with n; a second start goes on after the last whole block, to the same bits.

    Args:
        file: of these very texts; 4 bytes a number.
        texts: at least one, read in slices.
        encode: ``(b, d)`` embeddings of a block.
        label: for the progress.
        progress: is told.

    Raises:
        WorkspaceError: the disk has no room for them.
    """
    done = _cut_to_whole_blocks(file, len(texts))
    with file.open("ab") as stream, progress.bar(label, total=len(texts), unit="texts") as advance:
        advance(done)
        for start in range(done, len(texts), TEXTS_AT_ONCE):
            block = texts[start : start + TEXTS_AT_ONCE]
            rows = encode(block).cpu().numpy().astype("<f4", copy=False)
            if start == 0:
                shape = len(texts), rows.shape[1]
                _refuse_a_full_disk(file, shape, progress)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(stream, header)
            stream.write(rows.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
            advance(len(block))
    stored: NDArray[np.float32] = np.load(file, mmap_mode="r")
    return stored


def _cut_to_whole_blocks(file: Path, texts: int) -> int:
    """Rows that an earlier attempt left, without those of a block that was begun."""
    try:
        with file.open("rb+") as stream:
            npy.read_magic(stream)
            shape, *_ = npy.read_array_header_1_0(stream)
            begin, row = stream.tell(), 4 * shape[1]
            rows = (stream.seek(0, os.SEEK_END) - begin) // row
            done = texts if rows == texts else rows // TEXTS_AT_ONCE * TEXTS_AT_ONCE
            stream.truncate(begin + done * row)
    except (FileNotFoundError, ValueError):  # none, or one whose header was begun
        done = 0
    if not done:
        file.unlink(missing_ok=True)
    return done


def _refuse_a_full_disk(file: Path, shape: tuple[int, int], progress: Progress) -> None:
    needed, free = 4 * shape[0] * shape[1], shutil.disk_usage(file.parent).free
    gigabytes = f"{needed / 1e9:.1f} GB"
    if needed > free:
        raise WorkspaceError(
            f"embeddings of {shape[0]:,} texts take {gigabytes}, and {file.parent} has "
            f"{free / 1e9:.1f} GB left",
            hint="--workspace FOLDER, on a larger disk",
        )
    if needed > WORTH_SAYING:
        progress.note(
            f"embeddings of {shape[0]:,} texts take {gigabytes} of disk, until all is done"
        )
