"""What a frozen base makes of each text, computed once and kept on disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ragcun_cli.pipeline.encoders.encode import TEXTS_AT_ONCE, encode
from ragcun_cli.pipeline.machine.progress import Progress

KEYS, VECTORS = "keys.bin", "vectors.f32"
_KEY_BYTES = 16


class BaseOutputs:
    """``(d,)`` fp32 outputs of one frozen base, by text; the folder's name says which base.

    Vectors are written before their keys, so that a writer that was killed loses only what it was
    writing.
    """

    def __init__(self, folder: Path, *, width: int) -> None:
        self._folder = folder
        self._width = width
        folder.mkdir(parents=True, exist_ok=True)
        self._read()

    def _read(self) -> None:
        file = self._folder / KEYS
        vectors = self._folder / VECTORS
        whole = vectors.stat().st_size // (4 * self._width) if vectors.exists() else 0
        raw = file.read_bytes()[: whole * _KEY_BYTES] if file.exists() else b""
        self._rows = {
            raw[start : start + _KEY_BYTES]: start // _KEY_BYTES
            for start in range(0, len(raw) - _KEY_BYTES + 1, _KEY_BYTES)
        }
        self._map()

    def __len__(self) -> int:
        """Number of texts kept."""
        return len(self._rows)

    def missing(self, texts: Iterable[str], *, prompt: str) -> list[str]:
        """Those that are not here with this prompt before them, each once."""
        return [text for text in dict.fromkeys(texts) if _key(prompt, text) not in self._rows]

    def look_up(self, texts: Sequence[str], prompt: str) -> Tensor:
        """``(n, d)`` outputs for texts with a prompt before them, on the CPU.

        Raises:
            KeyError: a text was never encoded with this prompt.
        """
        rows = [self._rows[_key(prompt, text)] for text in texts]
        return torch.from_numpy(np.ascontiguousarray(self._vectors[rows]))

    def encode(
        self,
        base: SentenceTransformer,
        texts: Iterable[str],
        *,
        prompt: str,
        batch_size: int,
        precision: str,
        progress: Progress,
    ) -> float:
        """Encode the texts that are missing, and return the seconds it took.

        Args:
            base: the frozen base.
            texts: in any order, also repeated.
            prompt: what goes before each.
            batch_size: texts encoded at once.
            precision: autocast precision.
            progress: told of each batch.
        """
        started = time.perf_counter()
        with FileLock(self._folder / ".lock"):
            self._read()  # another training may have encoded some meanwhile
            wanted = self.missing(texts, prompt=prompt)
            for start in range(0, len(wanted), TEXTS_AT_ONCE):
                block = wanted[start : start + TEXTS_AT_ONCE]
                label = f"frozen base, texts {start + 1:,} to {start + len(block):,}"
                vectors = encode(
                    base,
                    block,
                    prompt=prompt,
                    batch_size=batch_size,
                    precision=precision,
                    label=label,
                    progress=progress,
                )
                self._append([_key(prompt, text) for text in block], vectors)
        return time.perf_counter() - started

    def _append(self, keys: Sequence[bytes], vectors: Tensor) -> None:
        kept = len(self._rows)
        with (self._folder / VECTORS).open("ab") as file:
            file.truncate(kept * self._width * 4)  # what a killed writer left
            file.write(vectors.cpu().numpy().astype("<f4").tobytes())
        with (self._folder / KEYS).open("ab") as file:
            file.truncate(kept * _KEY_BYTES)
            file.write(b"".join(keys))
        self._rows |= {key: kept + row for row, key in enumerate(keys)}
        self._map()

    def _map(self) -> None:
        shape = (len(self._rows), self._width)
        self._vectors: NDArray[np.float32] = np.zeros(shape, np.float32)
        if self._rows:
            self._vectors = np.memmap(self._folder / VECTORS, np.float32, mode="r", shape=shape)


def _key(prompt: str, text: str) -> bytes:
    return blake2b(f"{prompt}\0{text}".encode(), digest_size=_KEY_BYTES).digest()
