"""Hold scores of an encoder as published against those that others published of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from ragcun_cli.spec.errors import NotReproducedError

CHECKED = ("scifact", "nfcorpus", "arguana", "fiqa", "trec-covid")
"""Sets that are searched within minutes; arguana tells whether a query's namesake passage is left
out, trec-covid whether titles and grades are read."""

TOLERANCE = 0.005
"""Of nDCG@10: machines and precisions differ in the third decimal."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Published:
    """A score that others published."""

    ndcg: float
    """nDCG@10, in [0, 1]."""
    source: str
    mteb_version: str
    """That made it."""


@dataclass(frozen=True)
class Comparison:
    """A score measured here, beside the published one."""

    dataset: str
    published: float
    measured: float
    difference: float
    """Measured less published."""
    within: bool
    """Whether it is at most `TOLERANCE`, either way."""
    source: str


_SCORES = tomllib.loads(
    files(__package__).joinpath("published_scores.toml").read_text(encoding="utf-8")
)

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


def published(encoder_base: str, *, max_seq_length: int | None = None) -> Mapping[str, Published]:
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
        name: Published(entry["ndcg_at_10"], f"{folder}/{entry['file']}", entry["mteb"])
        for name, entry in known["scores"].items()
    }


def compare(
    encoder_base: str, measured: Mapping[str, float], *, max_seq_length: int | None = None
) -> list[Comparison]:
    """Every measured data set that has a published score, in the order measured.

    Args:
        encoder_base: full name on the Hub.
        measured: data set -> nDCG@10 of the whole reported split, with the encoder as published.
        max_seq_length: as for `published`.
    """
    known = published(encoder_base, max_seq_length=max_seq_length)
    return [
        Comparison(
            dataset=name,
            published=known[name].ndcg,
            measured=score,
            difference=score - known[name].ndcg,
            within=abs(score - known[name].ndcg) <= TOLERANCE + _ROUNDING,
            source=known[name].source,
        )
        for name, score in measured.items()
        if name in known
    ]


def require_reproduced(encoder_base: str, comparisons: Sequence[Comparison]) -> None:
    """Pass if every score is within the tolerance; a check of nothing does not pass.

    Raises:
        NotReproducedError: a score is off, or there is none to compare.
    """
    if not comparisons:
        raise NotReproducedError(
            f"no published score of '{encoder_base}' to compare with",
            hint=f"--set encoder.base={ENCODERS[0]}, and its own max_seq_length",
        )
    off = [part for part in comparisons if not part.within]
    if off:
        named = "; ".join(
            f"{part.dataset} {part.measured:.4f} instead of {part.published:.4f} "
            f"({part.difference:+.4f})"
            for part in off
        )
        raise NotReproducedError(
            f"nDCG@10 of '{encoder_base}' is further than {TOLERANCE:g} from what is published on "
            f"{len(off)} of {len(comparisons)} data sets: {named}",
            hint=f"ragcun data verify {' '.join(part.dataset for part in off)}",
        )
