"""Hold scores of an encoder as published against those that others published of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragcun_cli.pipeline.encoders.published import ENCODERS, published
from ragcun_cli.spec.errors import NotReproducedError

CHECKED = ("scifact", "nfcorpus", "arguana", "fiqa", "trec-covid")
"""Sets that are searched within minutes; arguana tells whether a query's namesake passage is left
out, trec-covid whether titles and grades are read."""

TOLERANCE = 0.005
"""Of nDCG@10: machines and precisions differ in the third decimal."""

_ROUNDING = 1e-9


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
