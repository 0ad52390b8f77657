"""How long a query takes: a property of a machine, so beside the scores and in none of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragcun_cli.pipeline.stages.task import Details

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


def times_of_fusion(dense: Details, lexical: Details, seconds: float) -> dict[str, float | None]:
    """Of a query of a fusion: both searches one after the other, then so long to fuse them.

    Args:
        dense: what the record of a search by embeddings remembers.
        lexical: the same of a search by words.
        seconds: to fuse.
    """
    times = [one.get(TIMES, {}) for one in (dense, lexical)]
    searching = [one.get("searching") for one in times]
    known = None if None in searching else sum(searching) + 1000 * seconds
    return {"encoding": times[0].get("encoding"), "searching": known}
