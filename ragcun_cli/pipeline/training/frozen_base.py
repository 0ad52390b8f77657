"""What a frozen base makes of each text, computed once and kept on disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ragcun_cli.pipeline.encoders.encode import TEXTS_AT_ONCE, encode
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.machine.stops import locked
from ragcun_cli.spec.manifest import replaced
from ragcun_cli.spec.marks import check_marked, is_marked, mark, read_marked

KEYS, VECTORS = ".keys", ".npy"
_KEY_BYTES = 16


class BaseOutputs:
    """``(d,)`` fp32 outputs of one frozen base, by text; the folder's name says which base.

    In blocks, each a file of keys beside one of vectors, which count once both are marked: a writer
    that was killed loses only what it was writing.
    """

    def __init__(self, folder: Path, *, width: int) -> None:
        """Open what is kept.

        Raises:
            WorkspaceError: a file is not what was written.
        """
        self._folder = folder
        self._width = width
        folder.mkdir(parents=True, exist_ok=True)
        self._read()

    def _read(self) -> None:
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._blocks: list[NDArray[np.float32]] = []
        while is_marked(self._file(KEYS)):
            self._open_block()

    def _file(self, ending: str) -> Path:
        """Of the first block that is not open."""
        return self._folder / f"{len(self._blocks):06d}{ending}"

    def _open_block(self) -> None:
        check_marked(self._file(VECTORS))
        raw, block = read_marked(self._file(KEYS)), len(self._blocks)
        keys = [raw[at : at + _KEY_BYTES] for at in range(0, len(raw), _KEY_BYTES)]
        self._rows |= {key: (block, row) for row, key in enumerate(keys)}
        self._blocks.append(np.asarray(np.load(self._file(VECTORS), mmap_mode="r")))

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
        found = np.empty((len(texts), self._width), np.float32)
        for place, text in enumerate(texts):
            block, row = self._rows[_key(prompt, text)]
            found[place] = self._blocks[block][row]
        return torch.from_numpy(found)

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
        with locked(self._folder / ".lock"):
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
        with replaced(self._file(VECTORS)) as stream:
            np.save(stream, vectors.cpu().numpy())
        with replaced(self._file(KEYS)) as stream:
            stream.write(b"".join(keys))
        mark(self._file(VECTORS), self._file(KEYS))
        self._open_block()


def _key(prompt: str, text: str) -> bytes:
    return blake2b(f"{prompt}\0{text}".encode(), digest_size=_KEY_BYTES).digest()
