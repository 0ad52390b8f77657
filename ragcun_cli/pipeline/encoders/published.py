"""Scores that others published, and how to know an encoder that has some."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from ragcun_cli.spec.errors import EncoderError


@dataclass(frozen=True)
class PublishedScore:
    """A score that others published."""

    ndcg: float
    """nDCG@10, in [0, 1]."""
    source: str
    mteb_version: str | None = None
    """That made it; None of one that mteb did not make, or no longer says."""


@dataclass(frozen=True)
class PublishedModel:
    """A model that others published scores of, as it was evaluated there."""

    name: str
    source: str
    scores: Mapping[str, PublishedScore]
    """By data set, in ragcun's names."""


_MODELS = tomllib.loads(files(__package__).joinpath("published.toml").read_text(encoding="utf-8"))[
    "models"
]

PUBLISHED = tuple(_MODELS)
"""Full names of all models that have scores."""

ENCODERS = tuple(name for name, known in _MODELS.items() if "max_seq_length" in known)
"""Those whose scores are of the encoder as it is: without prompt, at its own length."""


def published_weights(encoder_base: str) -> str:
    """sha256 of the weights of an encoder with published scores.

    Raises:
        KeyError: of another, or of one whose weights are not known.
    """
    digest: str = _MODELS[encoder_base]["sha256"]
    return digest


def name_of_weights(sha256: str) -> str | None:
    """The encoder with published scores whose weights a file holds, None of another."""
    names = (name for name, known in _MODELS.items() if known.get("sha256") == sha256)
    return next(names, None)


def published(
    encoder_base: str, *, max_seq_length: int | None = None
) -> Mapping[str, PublishedScore]:
    """Data set -> published nDCG@10 of an encoder without training; nothing where none is known.

    Args:
        encoder_base: full name on the Hub, one of `ENCODERS`.
        max_seq_length: as in a profile. Published scores are of the encoder's own length, which
            None means, too; none is known of another.
    """
    known = _MODELS.get(encoder_base, {})
    own = known.get("max_seq_length")
    if own is None or max_seq_length not in (None, own):
        return {}
    return published_model(encoder_base).scores


def published_model(name: str) -> PublishedModel:
    """A model by its full name, or by an ending that no other has.

    Raises:
        EncoderError: there is none, or there are several.
    """
    found = [name] if name in _MODELS else [full for full in PUBLISHED if full.endswith(name)]
    if len(found) != 1:
        near = [full for full in PUBLISHED if name.lower() in full.lower()]
        near = near or get_close_matches(name, PUBLISHED, n=3, cutoff=0.4) or list(PUBLISHED)
        raise EncoderError(
            f"no one model with published scores is named '{name}'; there are: {', '.join(near)}",
            hint=f"ragcun report --published '{near[0]}'",
        )
    known = _MODELS[found[0]]
    scores = {data: _score(known["source"], entry) for data, entry in known["scores"].items()}
    return PublishedModel(found[0], known["source"], scores)


def _score(source: str, entry: float | dict[str, Any]) -> PublishedScore:
    if isinstance(entry, dict):
        return PublishedScore(entry["ndcg_at_10"], f"{source}/{entry['file']}", entry.get("mteb"))
    return PublishedScore(entry, source)
