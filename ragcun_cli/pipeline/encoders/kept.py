"""Embeddings of a corpus on disk, a file for each encoding block."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import digest, replaced, write_atomically
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import Workspace

INDEX, IDS = "index.json", "ids.txt"


class EmbeddingCache:
    """Blocks as NumPy files beside the ids of the passages, one a line.

    The folder is named by a digest of weights, texts and settings, so that another model or corpus
    never finds it. Each block carries a digest of its bytes, which is checked when it is read.
    """

    def __init__(self, folder: Path, corpus: Corpus, *, dtype: str, recipe: dict[str, Any]) -> None:
        """In a folder of its own, made if it is not there.

        Args:
            folder: of this model, corpus and settings alone.
            corpus: whose passages are kept.
            dtype: `fp32`, or `fp16` of embeddings that were rounded to it.
            recipe: what the digest of the folder is of, for people.
        """
        self._folder, self._dtype = folder, np.float16 if dtype == "fp16" else np.float32
        if not (folder / INDEX).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / IDS).open("w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(f"{name}\n" for name in corpus.ids)
            write_atomically(folder / INDEX, json.dumps(recipe, indent=1) + "\n")

    def _files(self, rows: range) -> tuple[Path, Path]:
        name = f"{rows.start:010d}-{rows.stop:010d}"
        return self._folder / f"{name}.npy", self._folder / f"{name}.sha256"

    def read(self, rows: range) -> Tensor | None:
        """``(n, d)`` fp32 embeddings of a block on the CPU; None where it is not kept.

        Raises:
            DataError: the file is not what was written.
        """
        file, mark = self._files(rows)
        if not mark.is_file():  # written after the block is whole
            return None
        try:
            content = file.read_bytes()
            intact = hashlib.sha256(content).hexdigest() == mark.read_text(encoding="ascii")
        except OSError as error:
            raise self._damaged(file) from error
        if not intact:
            raise self._damaged(file)
        vectors: NDArray[np.floating] = np.load(io.BytesIO(content), allow_pickle=False)
        if len(vectors) != len(rows):
            raise self._damaged(file)
        return torch.from_numpy(vectors.astype(np.float32))

    def _damaged(self, file: Path) -> DataError:
        return DataError(
            f"the embedding cache is damaged: {file} is not what was written",
            hint=f"rm -r {self._folder}",
        )

    def write(self, rows: range, embeddings: Tensor) -> None:
        """Keep a block; a kill leaves it whole or absent."""
        file, mark = self._files(rows)
        with replaced(file) as stream:
            np.save(stream, embeddings.cpu().numpy().astype(self._dtype))
        write_atomically(mark, hashlib.sha256(file.read_bytes()).hexdigest())


def open_cache(
    source: ModelSource,
    corpus: Corpus,
    corpus_digest: str,
    config: EvaluationConfig,
    workspace: Workspace,
) -> EmbeddingCache:
    """The cache of one model's embeddings of one corpus, named by all that they depend on."""
    settings = {"block_passages", "batch_size", "precision", "embeddings"}
    recipe = {
        "model": source.digest(),
        "max_seq_length": None if source.base is None else source.base[1].max_seq_length,
        "corpus": corpus_digest,
        **config.model_dump(include=settings),
    }
    folder = workspace.embeddings(digest(recipe))
    return EmbeddingCache(folder, corpus, dtype=config.embeddings, recipe=recipe)
