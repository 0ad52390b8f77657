"""Draws that depend on names alone, by the sha256 of a text made of each; and all there are.

A draw is what the text is made by, with places for the name and, where it has one, the seed.
Changing one makes finished runs stale, and two that are alike take the same names.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from hashlib import sha256

import numpy as np

START = "{name}"
"""Passages that a linear head starts from, by id: the same for all seeds."""

DOCSTRINGS = "{name}"
"""Pairs of a library, by id."""

HELD_OUT = "{seed}:{name}"
"""Queries of a table that are held out for dev and test."""

PROXY_PAIRS = "proxy:{name}"
"""Pairs made of passages, by the query's text, where there are more than are wanted."""

PROXY_DOCUMENTS = "proxy-document:{name}"
"""Documents whose pairs are held out of training for dev and test."""

SAMPLE_QUERIES = SELECTION_QUERIES = "{seed}:query:{name}"
"""Queries of a sample of a data set, and of the set that a training selects its best step on."""

SAMPLE_PASSAGES = SELECTION_PASSAGES = "{seed}:passage:{name}"
"""What fills these up with passages that are not judged."""

MSMARCO_SELECT = "msmarco-select:{name}"
"""Training queries of MS MARCO that a training selects its best step on."""

TRAINING_QUERIES = "{seed}:{name}:sample"
"""Queries that are mined for, where not all are."""

POSITIVE = "{seed}:{name}:positive"
"""Which relevant passage of a query, the name, stands in its row."""

ROW_NEGATIVES = "{seed}:{name}"
"""The generator of a query's negatives."""

NEAR_DUPLICATES = "{seed}:near_duplicate:{name}"
"""Queries whose near duplicates are counted where none are left out."""

ISOTROPY_TEXTS = "isotropy:{name}"
"""Texts that isotropy is measured on, and which of them its reservoirs keep."""

VARIANTS = "variants:{name}"
"""Passages that smaller forms of embeddings are fitted to."""

SERVED = "served:{name}"
"""Queries and passages that a server or a store is checked on."""

TRIALS = "{seed}:trial:{name}"
"""Cells of a grid that are tried, where not all are, by their values as JSON."""

SIGNS = "{seed}:{name}"
"""The generator of a group's signs."""

FOLD = "fold:{name}"
"""The fold of a query, when its probability is fitted."""


def name_digest(draw: str, name: str, **seed: int) -> bytes:
    """The 32 bytes that decide for a name."""
    return sha256(draw.format(name=name, **seed).encode()).digest()


def smallest(draw: str, names: Iterable[str], count: int, **seed: int) -> list[str]:
    """So many names, or all, the one of the smallest digest first."""
    a, z = draw.format(name="\0", **seed).encode().split(b"\0")  # once, not a name each
    return heapq.nsmallest(count, names, lambda name: sha256(a + name.encode() + z).digest())


def number_of(draw: str, name: str, **seed: int) -> int:
    """64 bits that are as good as random."""
    return int.from_bytes(name_digest(draw, name, **seed)[:8], "big")


def generator(draw: str, name: str, **seed: int) -> np.random.Generator:
    """A generator of a name's own."""
    digest = name_digest(draw, name, **seed)
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
