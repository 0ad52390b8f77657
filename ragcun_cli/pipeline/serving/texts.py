"""The fifty texts that a model and a server are held against each other on."""

from __future__ import annotations

import math
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LONG_WORDS = (40, 80, 160, 320, 480)
"""Of the long texts; one more is longer than the model reads."""

MOST_WORDS = 2000
"""Of that one: of a model that reads more, it is not seen where a server cuts above it."""


def check_texts(model: SentenceTransformer) -> list[str]:
    """44 short texts (nearly empty, questions, code, eleven languages), then 6 long ones."""
    lines = Path(__file__).with_name("texts.txt").read_text("utf-8").splitlines()
    words = " ".join(lines[10:30]).split()
    reads = getattr(model, "max_seq_length", None) or math.inf
    sizes = [*LONG_WORDS, int(min(1.5 * max(reads, LONG_WORDS[-1]), MOST_WORDS))]
    return [*lines, *(" ".join(islice(cycle(words[n:] + words[:n]), n)) for n in sizes)]
