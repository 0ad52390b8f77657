"""Scores that others published of encoders as they are, and how to know such an encoder."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class PublishedScore:
    """A score that others published."""

    ndcg: float
    """nDCG@10, in [0, 1]."""
    source: str
    mteb_version: str
    """That made it."""


_SCORES = tomllib.loads(files(__package__).joinpath("published.toml").read_text(encoding="utf-8"))

ENCODERS = tuple(_SCORES["encoders"])
"""Those with published scores."""


def published_weights(encoder_base: str) -> str:
    """sha256 of the weights of an encoder with published scores.

    Raises:
        KeyError: of another, or of one whose weights are not known.
    """
    digest: str = _SCORES["encoders"][encoder_base]["sha256"]
    return digest


def name_of_weights(sha256: str) -> str | None:
    """The encoder with published scores whose weights a file holds, None of another."""
    names = (name for name, known in _SCORES["encoders"].items() if known.get("sha256") == sha256)
    return next(names, None)


def published(
    encoder_base: str, *, max_seq_length: int | None = None
) -> Mapping[str, PublishedScore]:
    """Data set -> published nDCG@10 of an encoder without training; nothing where none is known.

    Args:
        encoder_base: full name on the Hub.
        max_seq_length: as in a profile. Published scores are of the encoder's own length, which
            None means, too; none is known of another.
    """
    known = _SCORES["encoders"].get(encoder_base)
    if known is None or max_seq_length not in (None, known["max_seq_length"]):
        return {}
    folder = f"{_SCORES['source']}/{encoder_base.replace('/', '__')}"
    return {
        name: PublishedScore(entry["ndcg_at_10"], f"{folder}/{entry['file']}", entry["mteb"])
        for name, entry in known["scores"].items()
    }
