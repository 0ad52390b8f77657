"""Samples that depend on names alone: those with the smallest digests."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable


def name_digest(name: str, *, salt: str) -> bytes:
    """The 32 bytes that decide where a name stands."""
    return hashlib.sha256(f"{salt}:{name}".encode()).digest()


def smallest(names: Iterable[str], count: int, *, salt: str) -> list[str]:
    """So many names, or all, by the sha256 of salt and name; the smallest digest first."""
    return heapq.nsmallest(count, names, key=lambda name: name_digest(name, salt=salt))
