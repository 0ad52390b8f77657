"""How long a query takes: a property of a machine, so beside the scores and in none of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TIMES = "milliseconds"
"""Where a search's record has ``encoding`` and ``searching`` of a query; None is not measured."""

_TIMED, _WARMING = 32, 3


def encoding_time(model: SentenceTransformer, queries: Sequence[str], *, precision: str) -> float:
    """Median milliseconds in which the whole model encodes one query alone.

    Also of a model whose base is looked up otherwise.

    Args:
        model: on its device.
        queries: of which the first ones are timed.
        precision: autocast precision.
    """
    from ragcun_cli.pipeline.encoders.encode import encode_block, kept_base_of, set_kept_base

    base, took = kept_base_of(model), []
    set_kept_base(model, None)
    try:
        for text in (*queries[:_WARMING], *queries[:_TIMED]):
            started = time.perf_counter()
            encode_block(model, [text], side="query", batch_size=1, precision=precision).cpu()
            took.append(time.perf_counter() - started)
    finally:
        set_kept_base(model, base)
    return 1000 * statistics.median(took[len(queries[:_WARMING]) :])
