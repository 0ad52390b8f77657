"""Samples that depend on names alone: those with the smallest digests."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable


def smallest(names: Iterable[str], count: int, *, salt: str) -> list[str]:
    """So many names, or all, by the sha256 of salt and name; the smallest digest first."""
    return heapq.nsmallest(
        count, names, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest()
    )
