"""Embeddings of many texts on disk, a file for each encoding block."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ragcun_cli.core.folders import is_writable
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.machine.stops import locked
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import digest, replaced, write_atomically
from ragcun_cli.spec.marks import is_marked, mark, read_marked
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import Workspace

INDEX, IDS, LOCK = "index.json", "ids.txt", ".lock"
WORTH_SAYING = 1e9
"""Bytes above which embeddings are spoken of."""


class EmbeddingCache:
    """Blocks of rows as NumPy files.

    Each is marked by a digest of its bytes, which is checked when the block is read; a block is
    whole or absent, whenever its writer was killed.
    """

    def __init__(self, folder: Path, dtype: Literal["fp32", "fp16"] = "fp32") -> None:
        """In a folder of one model and of these very texts; fp16 of what was rounded to it."""
        self._folder, self._dtype = folder, np.float16 if dtype == "fp16" else np.float32

    def _file(self, rows: range) -> Path:
        return self._folder / f"{rows.start:010d}-{rows.stop:010d}.npy"

    def read(self, rows: range) -> Tensor | None:
        """``(n, d)`` fp32 embeddings of a block on the CPU; None where it is not kept.

        Raises:
            WorkspaceError: the file is not what was written.
        """
        file = self._file(rows)
        if not is_marked(file):
            return None
        content = io.BytesIO(read_marked(file))
        vectors: NDArray[np.floating] = np.load(content, allow_pickle=False)
        return torch.from_numpy(vectors.astype(np.float32))

    def write(self, rows: range, embeddings: Tensor) -> None:
        """Keep a block, where that can be written and no other process has done so meanwhile."""
        if not is_writable(self._folder):
            return
        file = self._file(rows)
        with locked(self._folder / LOCK):
            if is_marked(file):
                return
            with replaced(file) as stream:
                np.save(stream, embeddings.cpu().numpy().astype(self._dtype))
            mark(file)

    def take(self, rows: Iterable[int]) -> Tensor:
        """``(n, d)`` fp32 embeddings of some rows, once all are kept: blocks are not read whole.

        All blocks but the last have to be of one length.
        """
        size = len(self._mapped[0])
        return torch.from_numpy(np.array([self._mapped[row // size][row % size] for row in rows]))

    @cached_property
    def _mapped(self) -> list[NDArray[np.float32]]:
        return [np.load(file, mmap_mode="r") for file in sorted(self._folder.glob("*.npy"))]


def refuse_a_full_disk(folder: Path, texts: int, *, dimensions: int, progress: Progress) -> None:
    """Say what embeddings of so many texts will take, less those that the folder holds.

    Raises:
        WorkspaceError: the disk has no room for them.
    """
    whole, free = 4 * texts * dimensions, shutil.disk_usage(folder).free
    needed = whole - sum(file.stat().st_size for file in folder.rglob("*-*.npy"))
    takes = f"embeddings of {texts:,} texts take {whole / 1e9:.1f} GB"
    if needed > free:
        raise WorkspaceError(
            f"{takes}, and {folder} has {free / 1e9:.1f} GB left",
            hint="--workspace FOLDER, on a larger disk",
        )
    if needed > WORTH_SAYING:
        progress.note(f"{takes} of disk, until all is done")


def open_cache(
    source: ModelSource,
    corpus: Corpus,
    corpus_digest: str,
    config: EvaluationConfig,
    workspace: Workspace,
) -> EmbeddingCache:
    """The cache of one model's embeddings of one corpus, named by all that they depend on.

    What that is lies beside the blocks, for people, and so do the passages' ids, one a line.
    """
    settings = {"block_passages", "batch_size", "precision", "embeddings"}
    recipe = {
        "model": source.digest(),
        "max_seq_length": None if source.base is None else source.base[1].max_seq_length,
        "corpus": corpus_digest,
        **config.model_dump(include=settings),
    }
    folder = workspace.embeddings(digest(recipe))
    if not is_marked(folder / INDEX) and is_writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK):
            if not is_marked(folder / INDEX):
                with replaced(folder / IDS) as stream:
                    stream.writelines(f"{name}\n".encode() for name in corpus.ids)
                write_atomically(folder / INDEX, json.dumps(recipe, indent=1) + "\n")
                mark(folder / IDS, folder / INDEX)
    return EmbeddingCache(folder, config.embeddings)
