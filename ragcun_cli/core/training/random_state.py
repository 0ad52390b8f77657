"""The random generators of this process, kept from what happens during a training beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import set_seed


@contextmanager
def own_random_state(seed: int) -> Iterator[Callable[[], None]]:
    """Within it Python, numpy and torch draw from a seed; after it they stand where they stood.

    Yields what puts them back there before its end.
    """
    kept: list[tuple[Callable[[Any], Any], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    if torch.cuda.is_initialized():
        kept.append((torch.cuda.set_rng_state, torch.cuda.get_rng_state()))
    if torch.backends.mps.is_available():
        kept.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))

    def put_back() -> None:
        for put, state in kept:
            put(state)

    set_seed(seed)
    try:
        yield put_back
    finally:
        put_back()
