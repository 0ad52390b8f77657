"""How pairs are made of passages, and what is counted meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PairsOf = Literal["title", "heading", "first-sentence"]

PASSAGE_WORDS = 80
"""Of a passage, at most: 128 word pieces of English prose are some 95 words, of manuals some 80."""

ROUND_TRIP_BASE, ROUND_TRIP_LENGTH = "sentence-transformers/all-MiniLM-L6-v2", 128
"""Encoder that has to find a passage by its query, and word pieces that it reads."""

MOST_DEV, MOST_TEST = 500, 1000
"""Queries of dev and test where no number is asked for: a tenth of the pairs, or so many."""

SAID: Mapping[str, str] = {
    "title": "titles of their documents",
    "heading": "headings above them",
    "first-sentence": "their first sentences",
    "queries": "queries that were made for them",
}
"""What queries are, after `passages are asked for by`."""


@dataclass(frozen=True)
class PairSettings:
    """What a person wants pairs to be."""

    pairs: PairsOf | None = None
    """What the query of a passage is; None where they come in a file."""

    queries: Path | None = None
    """JSONL of ``query`` and ``passage_id``."""

    passage_words: int = PASSAGE_WORDS
    max_pairs: int | None = None
    """Kept at most, by the digest of the query's text."""

    test_queries: int | None = None
    dev_queries: int | None = None
    columns: str = ""
    """What a table calls them: ``text=body,title=name,id=key``."""

    @property
    def kind(self) -> str:
        """A key of ``SAID``."""
        return self.pairs or "queries"

    @property
    def makes_pairs(self) -> bool:
        """Whether pairs are wanted at all."""
        return self.pairs is not None or self.queries is not None


@dataclass
class Tally:
    """How many there were of something, how many were used, and why the others were not."""

    seen: int = 0
    used: int = 0
    left: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def leave(self, why: str, name: str) -> None:
        """Count one that is not used; the name of the first is kept."""
        self.left[why] += 1
        self.first.setdefault(why, name)

    def content(self) -> dict[str, Any]:
        """What a record remembers, as JSON."""
        out = {why: {"count": n, "first": self.first[why]} for why, n in self.left.most_common()}
        return {"seen": self.seen, "used": self.used, "left_out": out}

    def reasons(self) -> str:
        """Why things were left out, for a message: the most frequent reason first."""
        return ", ".join(f"{count:,} {why}" for why, count in self.left.most_common())

    def line(self, kind: str) -> str:
        """All that is counted of a kind, with the first that each reason left out."""
        left = (f"; {n:,} {why}, as {self.first[why]}" for why, n in self.left.most_common())
        return f"{self.seen:,} {kind}, {self.used:,} of them used{''.join(left)}"
