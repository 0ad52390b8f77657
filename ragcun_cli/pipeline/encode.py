"""Texts to embeddings, with progress, in a fixed order of batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ragcun_cli.pipeline.progress import Progress

Side = Literal["query", "document"]
"""Which of the model's own prompts goes before a text, where it has any."""

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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

    Before the texts goes the model's own prompt for a side, or the one that is given.

    Batches hold texts of like length, so that little is padded; which texts share a batch moves an
    embedding in its last digits, and depends on the texts alone.
    """
    order = np.argsort([-len(text) for text in texts], kind="stable")
    encode_side = {
        "query": model.encode_query,
        "document": model.encode_document,
        None: partial(model.encode, prompt=prompt),
    }[side]
    rows: list[Tensor] = []
    autocast = torch.autocast(
        model.device.type, dtype=DTYPES.get(precision), enabled=precision in DTYPES
    )
    with progress.bar(label, total=len(texts), unit="texts") as advance, autocast:
        for start in range(0, len(texts), batch_size):
            block = [texts[row] for row in order[start : start + batch_size]]
            embeddings = encode_side(
                block, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False
            )
            rows.append(embeddings.float())
            advance(len(block))
    joined = torch.cat(rows)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.from_numpy(order)] = torch.arange(len(order))
    return joined[back.to(joined.device)]
