"""How a search is carried out, as a command says it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ragcun_cli.spec.errors import RagcunError

CHUNK_PASSAGES = 65_536
"""Searched between two saves of an interruptible search."""


@dataclass(frozen=True)
class Shard:
    """One of ``count`` processes that divide a search, each a command of its own."""

    index: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, text: str | None) -> Shard | None:
        """``2/4`` is the second of four; None is none.

        Raises:
            RagcunError: it is no such pair.
        """
        if text is None:
            return None
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise RagcunError(
                f"'{text}' is no shard: the second of four is 2/4", hint="ragcun eval --shard 2/4"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Searching:
    """How a search is carried out; none of it moves a result."""

    shard: Shard | None = None
    """Find this one's share and keep it, to be merged."""
    merge: bool = False
    """Put together what shards have found instead of searching."""
    chunk: int = CHUNK_PASSAGES
    """Passages between two saves."""
    keep_embeddings: bool = False
    """Keep the embeddings of passages in the workspace's cache, and use those that are there."""


ALONE = Searching()
"""One command that searches whole data sets."""
