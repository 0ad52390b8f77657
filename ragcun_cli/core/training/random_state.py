"""The random generators of this process, kept from what happens during a training beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def random_state() -> Callable[[], None]:
    """What puts the generators of Python, numpy and torch back to where they stand now."""
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

    return put_back
