"""What a base makes of blocks of texts, computed once and kept on disk for every head on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from torch import Tensor

from ragcun_cli.core.folders import is_writable
from ragcun_cli.core.model import on_cached_outputs
from ragcun_cli.pipeline.data.sets.corpus import BATCH_ROWS, Corpus
from ragcun_cli.pipeline.encoders.encode import (
    encode_batches,
    kept_base_of,
    output_rows,
    set_kept_base,
)
from ragcun_cli.pipeline.machine import processes
from ragcun_cli.pipeline.machine.progress import Advance, Progress
from ragcun_cli.pipeline.machine.stops import locked
from ragcun_cli.spec.manifest import digest, replaced, write_atomically
from ragcun_cli.spec.marks import check_marked, is_marked, mark
from ragcun_cli.spec.paths import OutputsFolder

RECIPE, VECTORS = "recipe.json", ".npy"

WHOLE_LIST = 5
"""All texts of a list are encoded where it has at most so many times as many as are wanted."""

WORTH_KEEPING = 2
"""Texts of the smallest block that is kept: a query that somebody types is none."""

_KEY_BYTES = 16


class BaseOutputs:
    """Outputs of one base, a file for each block of texts that was ever encoded together.

    A block is found by its texts and by all that decides what the base makes of them. It is encoded
    whole and alone, so its bytes are the same whoever comes first, and whether they are kept or not
    moves no number. A block is whole or absent, whenever its writer was killed.
    """

    def __init__(
        self, modules: SentenceTransformer, kept: OutputsFolder, say: Callable[[str], None]
    ) -> None:
        """Of these modules.

        Args:
            modules: the base, without a head.
            kept: where, and how much.
            say: is told once in a process that there is no more room.
        """
        self.modules, self._kept, self._say = modules, kept, say
        self.encoded = 0
        self._base = {
            "encoder": dict(kept.encoder),
            "parameters": _parameters_digest(modules),
            "modules": [type(module).__name__ for module in modules],
            "max_seq_length": str(getattr(modules, "max_seq_length", None)),
            "device": modules.device.type,
        }

    def read(
        self, texts: Sequence[str], *, prompt: str, advance: Advance, **how: int | str
    ) -> NDArray[np.void]:
        """``(n,)`` rows of `output_rows`, in the order of the batches that they were encoded in.

        Args:
            texts: a whole block.
            prompt: what goes before each.
            advance: told of texts that are done, which encoding may take a while.
            how: they are encoded: ``batch_size`` and ``precision``.

        Raises:
            WorkspaceError: the block's file is not what was written.
            EncoderError: the base fails on them.
        """
        what: Any = {"prompt": prompt, **how}
        recipe = self._base | what
        file = self._kept.folder / digest(recipe)[:16] / f"{_texts_digest(texts)}{VECTORS}"

        def encode() -> NDArray[np.void]:
            outputs, order = encode_batches(self.modules, texts, **what, advance=advance)
            rows = np.empty(len(texts), output_rows(outputs.shape[1]))
            rows["text"], rows["output"] = order.cpu().numpy(), outputs.cpu().numpy()
            self.encoded += len(texts)
            return rows

        if not is_marked(file):
            if len(texts) < WORTH_KEEPING or not is_writable(self._kept.folder):
                return encode()
            file.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._kept.folder / f".{file.name[:2]}.lock"):
                if not is_marked(file):
                    rows = encode()
                    self._keep(file, rows, recipe)
                    return rows
        check_marked(file)
        advance(len(texts))
        return np.asarray(np.load(file, mmap_mode="r"))

    def _keep(self, file: Path, rows: NDArray[np.void], recipe: dict[str, Any]) -> None:
        folder, most = self._kept.folder, self._kept.most_bytes
        with locked(folder / ".lock"):  # others may write other blocks
            taken = sum(other.stat().st_size for other in folder.rglob(f"*{VECTORS}"))
            if taken + rows.nbytes <= most:
                if not is_marked(file.parent / RECIPE):
                    write_atomically(file.parent / RECIPE, json.dumps(recipe, indent=1) + "\n")
                    mark(file.parent / RECIPE)
                with replaced(file) as stream:
                    np.save(stream, rows)
                mark(file)
            elif folder not in _FULL:
                _FULL.add(folder)
                self._say(
                    f"{folder} has its {most / 1e9:g} GB: further outputs of frozen bases are "
                    "computed and not kept; --cache-gb N allows more, and ragcun reproduce --clean "
                    "lists what can go"
                )


_FULL: set[Path] = set()
"""Folders of which was said that they are full."""


def keep_base(
    model: SentenceTransformer, kept: OutputsFolder, *, head: int, progress: Progress
) -> None:
    """Have a model's base looked up from now on: all its modules but the last ones, of its head."""
    if not isinstance(model[0], Router):  # which knows more than a text and its prompt
        modules = list(model)[: len(model) - head]
        base = SentenceTransformer(modules=modules, device=str(model.device))
        set_kept_base(model, BaseOutputs(base, kept, progress.note))


def _parameters_digest(model: SentenceTransformer) -> str:
    """Of all weights as they are in memory: outputs are those of this base, whatever was saved."""
    found = sha256()
    for name, values in model.state_dict().items():
        found.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        found.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _texts_digest(texts: Sequence[str]) -> str:
    found = sha256()
    for text in texts:
        content = text.encode()
        found.update(b"%d:" % len(content) + content)
    return found.hexdigest()[:32]


@dataclass(frozen=True)
class WantedTexts:
    """Some texts of a long list that are wanted one by one, and the prompt before them."""

    read: Callable[[NDArray[np.int64]], Sequence[str]]
    """Texts by rows."""
    total: int
    """In the list."""
    rows: NDArray[np.int64]
    """Of those that are wanted, ascending, each once."""
    prompt: str
    block: int
    """Rows that are encoded together."""
    most: float = WHOLE_LIST
    """Times as many as are wanted, up to which the blocks are those of the whole list."""

    @classmethod
    def passages(cls, corpus: Corpus, rows: NDArray[np.int64], **more: Any) -> WantedTexts:  # noqa: ANN401
        """Some of a corpus, by rows in any order."""
        return cls(corpus.texts_of, len(corpus), np.unique(rows), **more)

    @classmethod
    def all_of(cls, texts: Sequence[str], **more: Any) -> WantedTexts:  # noqa: ANN401
        """A list that is in memory."""
        rows = np.arange(len(texts))
        return cls(lambda some: [texts[row] for row in some], len(texts), rows, **more)

    def wanted_texts(self) -> Iterator[str]:
        """In the order of their rows."""
        for start in range(0, len(self.rows), BATCH_ROWS):
            yield from self.read(self.rows[start : start + BATCH_ROWS])

    @property
    def _from(self) -> NDArray[np.int64]:
        """Rows that blocks are cut from: of the whole list, which others share, or the wanted ones.

        Which of both depends on how many there are, and never on what is kept.
        """
        whole = self.total <= self.most * len(self.rows)
        return np.arange(self.total) if whole else self.rows

    @property
    def blocks(self) -> list[NDArray[np.int64]]:
        """Rows of each block that holds a wanted one."""
        rows = self._from
        numbers = np.unique(np.searchsorted(rows, self.rows) // self.block).tolist()
        return [rows[number * self.block :][: self.block] for number in numbers]


class _ByText:
    """Outputs of wanted texts by their words: sorted keys in memory, outputs in a file."""

    def __init__(self, wanted: Sequence[WantedTexts], file: Path, width: int) -> None:
        found = [_key(one.prompt, text) for one in wanted for text in one.wanted_texts()]
        keys = np.array(found, f"S{_KEY_BYTES}")
        self._order = keys.argsort(kind="stable")
        self._keys = keys[self._order]
        self._outputs = np.memmap(file, np.float32, "r", shape=(len(keys), width))

    def look_up(self, texts: Sequence[str], prompt: str) -> Tensor:
        """``(n, d)`` outputs for texts with a prompt before them, on the CPU.

        Raises:
            KeyError: a text is not here with this prompt.
        """
        keys = np.array([_key(prompt, text) for text in texts], self._keys.dtype)
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        if len(absent := np.flatnonzero(self._keys[places] != keys)):
            raise KeyError(texts[absent[0]])
        return torch.from_numpy(self._outputs[self._order[places]])


def _key(prompt: str, text: str) -> bytes:
    return blake2b(f"{prompt}\0{text}".encode(), digest_size=_KEY_BYTES).digest()


def on_wanted_outputs(
    model: SentenceTransformer,
    wanted: Sequence[WantedTexts],
    file: Path,
    *,
    batch_size: int,
    precision: str,
    label: str,
    progress: Progress,
) -> SentenceTransformer:
    """The model's head on outputs of its kept base for some texts, which it knows by their words.

    Args:
        model: has a kept base.
        wanted: the texts; of one that is there twice the first counts.
        file: for their outputs, written by the first process; read as long as the head is.
        batch_size: texts encoded at once.
        precision: autocast precision.
        label: of the bar.
        progress: told of texts.

    Raises:
        ValueError: the model has no kept base.
    """
    base = kept_base_of(model)
    if base is None:
        raise ValueError("the model has no kept base")
    blocks = [(one, rows) for one in wanted for rows in one.blocks]
    total = sum(len(rows) for _, rows in blocks)
    if processes.rank() == 0:
        with progress.bar(label, total=total, unit="texts") as advance, replaced(file) as stream:
            how: Any = {"batch_size": batch_size, "precision": precision, "advance": advance}
            for one, rows in blocks:
                found = base.read(one.read(rows), prompt=one.prompt, **how)
                outputs = np.empty_like(found["output"])
                outputs[found["text"]] = found["output"]
                first, last = np.searchsorted(one.rows, (rows[0], rows[-1] + 1))
                chosen = np.searchsorted(rows, one.rows[first:last])
                stream.write(outputs[chosen].tobytes())
    width = base.modules.get_embedding_dimension()
    head = list(model)[len(base.modules) :]
    known = _ByText(wanted, file, width)
    fitted = on_cached_outputs(head, known.look_up, device=str(model.device))
    fitted.prompts, fitted.default_prompt_name = dict(model.prompts), model.default_prompt_name
    fitted.truncate_dim = model.truncate_dim
    return fitted
