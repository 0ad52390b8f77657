"""The plan for a person's own data set: its values follow from the set's size and the machine."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
"""Of a plan for which no other was asked: small, and in the offline package."""

FULL_QUERIES = 2_000
"""Training queries from which on a GPU trains the whole encoder; of fewer, the head alone."""

WHOLE_CORPUS = 300_000
"""Passages up to which dev queries are ranked among all of them, on a frozen base."""

CONTRASTS = (
    ("fine_tune", "untouched", "", True),
    ("fine_tune", "untouched", "binary", True),
    ("fine_tune", "free_transform", "", False),
    ("fine_tune", "free_transform", "binary", False),
    ("fine_tune", "without_isotropy", "", False),
    ("fine_tune", "without_isotropy", "binary", False),
    ("fine_tune", "fusion", "", False),
    ("bm25", "untouched", "", False),
    ("fusion", "untouched", "", False),
)
"""Arm, against, form and whether it is primary."""

_FROZEN_STEPS, _FROZEN_BATCH = 300, 512
_FULL_BATCH, _FULL_PASSES, _FULL_STEPS = 64, 3, 3_000
_START_PASSAGES, _RANKED_PASSAGES = 10_000, 10_000


def own_plan(
    name: str,
    data: str,
    base: str,
    *,
    counts: dict[str, int],
    width: int | None,
    machine: str,
    gpu: bool,
    bf16: bool,
) -> str:
    """The text of its TOML file, in which comments say why each value is what it is.

    Args:
        name: of the plan.
        data: that it is trained and tested on.
        base: the encoder.
        counts: of ``passages``, and of ``train``, ``dev`` and ``test`` queries.
        width: of the base's embeddings; None where it is not here.
        machine: that it is for, in words.
        gpu: whether that has one.
        bf16: whether it computes in that precision.
    """
    from jinja2 import Environment, StrictUndefined

    passages, train = counts["passages"], counts["train"]
    frozen = not gpu or train < FULL_QUERIES
    batch = min(_FROZEN_BATCH if frozen else _FULL_BATCH, 2 ** ((train // 8).bit_length() - 1))
    steps = _FROZEN_STEPS if frozen else min(_FULL_STEPS, _FULL_PASSES * train // batch)
    why = "the whole encoder: a GPU is here"
    if frozen:
        few = f"fewer than {FULL_QUERIES:,} training queries would bend the whole encoder"
        why = few if gpu else "the head alone: no GPU is here, and each text is then encoded once"
    whole = frozen and passages <= WHOLE_CORPUS
    values: dict[str, Any] = {
        "name": name,
        "data": data,
        "base": json.dumps(base),
        "machine": machine,
        "frozen": frozen,
        "why": why,
        "batch": batch,
        "steps": steps,
        "every": max(1, steps // 3),
        "precision": "bf16" if bf16 else "fp16",
        "known": width is not None,
        "output_dim": width or 512,
        "init_passages": passages if whole else min(passages, _START_PASSAGES),
        "ranked": passages if whole else min(passages, _RANKED_PASSAGES),
        "contrasts": CONTRASTS,
        **counts,
    }
    jinja = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    source = files(__package__).joinpath("own_plan.toml.jinja").read_text(encoding="utf-8")
    return jinja.from_string(source).render(values)
