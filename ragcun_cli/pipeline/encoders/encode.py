"""Texts to embeddings, with progress, in a fixed order of batches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ragcun_cli.pipeline.machine.giving_out import of_memory
from ragcun_cli.pipeline.machine.progress import Advance, Progress
from ragcun_cli.spec.errors import EncoderError, first_line

Side = Literal["query", "document"]
"""Which of the model's own prompts goes before a text, where it has any."""

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

FEWER_TEXTS = "--set evaluation.batch_size=16, or fewer"

TEXTS_AT_ONCE = 8192
"""Sorted by length and tokenised together."""

BATCH_TEXTS = 64
"""Through the model together, where no profile says how many."""

_NO_SUCH_ROW = re.compile("index out of range in self|out of bounds|device-side assert")
"""What PyTorch says of a position or a word piece that a model has not."""

_PROMPTS: Mapping[Side, Sequence[str]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
"""Names that sentence-transformers looks for, in this order."""


def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    side: Side | None = None,
    prompt: str = "",
    batch_size: int,
    precision: str = "fp32",
    label: str,
    progress: Progress,
) -> Tensor:
    """``(n, d)`` fp32 embeddings as the model serves them, on its device.

    In blocks of ``TEXTS_AT_ONCE``, each as `encode_block` does it.
    """
    with progress.bar(label, total=len(texts), unit="texts") as advance:
        blocks = [
            encode_block(
                model,
                texts[start : start + TEXTS_AT_ONCE],
                side=side,
                prompt=prompt,
                batch_size=batch_size,
                precision=precision,
                advance=advance,
            )
            for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
    return torch.cat(blocks)


def encode_block(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    side: Side | None = None,
    prompt: str = "",
    batch_size: int,
    precision: str = "fp32",
    advance: Advance = lambda count: None,
) -> Tensor:
    """``(n, d)`` fp32 embeddings of texts that are in memory together.

    Before the texts goes the model's own prompt for a side, or without one the prompt that is
    given. All are
    tokenised once, then batches are cut from them in order of their number of tokens, so that
    little is padded (characters tell it badly: FiQA padded 22 %). Which texts share a batch moves
    an embedding in its last digits, and depends on the texts of the block alone.

    Raises:
        ValueError: there are no texts.
        EncoderError: the model fails on them: too many positions, unknown tokens, no memory left.
    """
    how: Any = {"batch_size": batch_size, "precision": precision, "advance": advance}
    embeddings, order = encode_batches(model, texts, side=side, prompt=prompt, **how)
    back = torch.empty(len(texts), dtype=torch.long)
    back[order] = torch.arange(len(texts))
    return embeddings[back.to(embeddings.device)]


def encode_batches(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    side: Side | None = None,
    prompt: str = "",
    batch_size: int,
    precision: str = "fp32",
    advance: Advance = lambda count: None,
) -> tuple[Tensor, Tensor]:
    """What `encode_block` gives in the order of the batches, and ``(n,)`` texts that rows are of.

    Where outputs of the model's base are kept, its head reads the batches that they were made in,
    so that it computes the very same numbers.

    Raises:
        ValueError: there are no texts.
        EncoderError: as `encode_block`.
    """
    if not texts:
        raise ValueError("there are no texts to encode")
    model.eval()
    base = kept_base_of(model)
    before = prompt if side is None else own_prompt(model, side)
    if base is None:
        batches = _batches(model, texts, before, _task(side), batch_size)
    else:
        how: Any = {"batch_size": batch_size, "precision": precision, "advance": advance}
        batches = _kept_batches(base.read(texts, prompt=before or "", **how), batch_size)
        advance = lambda count: None  # noqa: E731 - the base has told
    autocast = torch.autocast(
        model.device.type, dtype=DTYPES.get(precision), enabled=precision in DTYPES
    )
    rows: list[Tensor] = []
    order: list[Tensor] = []
    with autocast, torch.inference_mode():
        for chosen, features in batches:
            on_device = {
                key: value.to(model.device, non_blocking=True)
                if isinstance(value, Tensor)
                else value
                for key, value in features.items()
            }
            with told(model):
                if base is None:
                    on_device = model(on_device, **_task(side))
                else:
                    for module in list(model)[len(base.modules) :]:
                        on_device = module(on_device)
            rows.append(on_device["sentence_embedding"][:, : model.truncate_dim].float())
            order.append(chosen)
            advance(len(chosen))
    return torch.cat(rows), torch.cat(order)


class KeptBase(Protocol):
    """The first modules of a model, whose outputs are kept for all that share them."""

    modules: SentenceTransformer
    encoded: int
    """Texts that were not kept when they were asked for."""

    def read(
        self, texts: Sequence[str], *, prompt: str, advance: Advance, **how: int | str
    ) -> NDArray[np.void]:
        """Outputs of a block of texts in the order of its batches, as rows of ``output_rows``."""


def output_rows(width: int) -> np.dtype[np.void]:
    """A row of kept outputs: the place of a text in its block, and fp32 outputs of the base."""
    return np.dtype([("text", np.int32), ("output", np.float32, (width,))])


def set_kept_base(model: SentenceTransformer, base: KeptBase | None) -> None:
    """Have a model's base looked up where its outputs are kept; not when the model itself runs."""
    vars(model)["ragcun_kept_base"] = base


def kept_base_of(model: SentenceTransformer) -> KeptBase | None:
    """Its base whose outputs are kept, if any."""
    found: KeptBase | None = vars(model).get("ragcun_kept_base")
    return found


def _kept_batches(kept: NDArray[np.void], size: int) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    for start in range(0, len(kept), size):
        batch = kept[start : start + size]
        outputs = torch.from_numpy(np.array(batch["output"]))
        yield torch.from_numpy(batch["text"].astype(np.int64)), {"sentence_embedding": outputs}


@contextmanager
def told(model: Any) -> Iterator[None]:  # noqa: ANN401
    """Tell what others' code raises of a model or of texts in one message.

    Raises:
        EncoderError: whatever it was.
    """
    try:
        yield
    except Exception as error:
        said = first_line(error)
        name, kind = getattr(model[0], "loaded_from", "the model"), type(error).__name__
        if of_memory(error):
            what = f"memory gave out while encoding with {name}: {said}"
            raise EncoderError(what, hint=FEWER_TEXTS) from error
        positions = getattr(getattr(model[0], "config", None), "max_position_embeddings", None)
        no_such = _NO_SUCH_ROW.search(said) or f"({positions})" in said
        hint = "a max_seq_length that the model has positions for, and its own tokenizer"
        raise EncoderError(
            f"{name} cannot encode these texts: {said} ({kind})", hint=hint if no_such else None
        ) from error


def _batches(
    model: SentenceTransformer,
    texts: Sequence[str],
    prompt: str | None,
    task: Mapping[str, str],
    size: int,
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Rows of each batch and what the model reads of them, the longest first."""

    def read(some: Sequence[str]) -> dict[str, Any]:
        with told(model):
            return dict(model.preprocess(list(some), prompt=prompt, **task))

    whole = read(texts)
    if isinstance(found := whole.get("sentence_embedding"), Tensor):  # looked up
        for rows in torch.arange(len(texts)).split(size):
            yield rows, {"sentence_embedding": found[rows]}
        return
    mask = whole.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2 or len(mask) != len(texts):
        # Static embeddings, or texts laid end to end for flash attention: nothing is padded.
        for rows in torch.arange(len(texts)).split(size):
            yield rows, read([texts[row] for row in rows])
        return
    lengths = mask.sum(1)
    from_left = bool(mask[:, 0].all())
    for rows in lengths.argsort(descending=True, stable=True).split(size):
        longest = int(lengths[rows].max())
        kept = slice(0, longest) if from_left else slice(mask.shape[1] - longest, None)
        yield (
            rows,
            {
                key: _cut(value, rows, kept, mask.shape) if isinstance(value, Tensor) else value
                for key, value in whole.items()
            },
        )


def _cut(values: Tensor, rows: Tensor, kept: slice, shape: torch.Size) -> Tensor:
    chosen = values[rows]
    return chosen[:, kept] if values.shape[:2] == shape else chosen


def own_prompt(model: SentenceTransformer, side: Side) -> str | None:
    """What a model says goes before texts of a side; None where it says nothing."""
    names = [*(name for name in _PROMPTS[side] if name in model.prompts)]
    name = names[0] if names else model.default_prompt_name
    return None if name is None else model.prompts.get(name)


def _task(side: Side | None) -> dict[str, str]:
    """What a Router takes its route from."""
    return {} if side is None else {"task": side}
