"""Rough guesses of what a stage will cost, said before it starts. Never printed as a result."""

from __future__ import annotations

import os
from pathlib import Path

# One modern core sustains some 60 GFLOP/s of fp32 matrix products; a data-centre GPU some
# 30 TFLOP/s with everything around them.
CORE_FLOPS = 6e10
GPU_FLOPS = 3e13

PASSAGE_TOKENS = 80
"""Word pieces of a typical passage (MS MARCO's mean), where the maximum length allows it."""
QUERY_TOKENS = 12
BYTES_PER_PARAMETER = 4
EMBEDDING_SHARE = 0.35
"""Of a base-sized encoder's parameters; they are looked up, not multiplied."""
UNKNOWN_WEIGHTS = 440_000_000
"""Bytes of a base-sized model's weights, for guesses made before it is here."""
TRAINING_TO_FORWARD = 3
BM25_PAIRS_PER_SECOND = 2e8
"""Query-passage pairs that one core scores."""


def sees_gpu() -> bool:
    """Whether this machine has an NVIDIA device; asked of the system, since torch loads slowly."""
    return Path("/dev/nvidia0").exists()


def encoding_seconds(
    *, passages: int, queries: int, weight_bytes: int, max_tokens: int, gpu: bool
) -> float:
    """Seconds of encoding these texts: two operations for each parameter and word piece."""
    parameters = weight_bytes / BYTES_PER_PARAMETER * (1 - EMBEDDING_SHARE)
    tokens = passages * min(PASSAGE_TOKENS, max_tokens) + queries * min(QUERY_TOKENS, max_tokens)
    return 2 * parameters * tokens / (GPU_FLOPS if gpu else CORE_FLOPS * (os.cpu_count() or 1))


def mining_seconds(*, queries: int, passages: int) -> float:
    """Seconds of BM25 on one core."""
    return queries * passages / BM25_PAIRS_PER_SECOND


def duration(seconds: float) -> str:
    """``about 3 min``, to one or two digits: it is a guess."""
    if seconds < 60:
        return "under a minute"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"about {seconds / 3600:.0f} h"
    return f"about {seconds / 86_400:.0f} days"
