"""The table of claims: what the plan hopes to show, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from ragcun_cli.pipeline.report.claims import JudgedClaim
from ragcun_cli.pipeline.report.table import Cell, Column, Table

_NOTES = (
    "A claim of more than b is shown where the whole 95 % interval lies above b, not met where it "
    "lies below, and undecided between. Gains and averages are in points of nDCG@10, and their "
    "intervals are of other queries and other training seeds; those of isotropy are of other "
    "training seeds (Student's t) or, with one seed, of other texts.",
    "What the original plan expected was a hope, and nobody had measured it.",
)


def claims_table(judged: Sequence[JudgedClaim]) -> Table | None:
    """Every claim with its verdict; None where the plan makes none."""
    if not judged:
        return None
    hopes = any(one.claim.expected for one in judged)
    return Table(
        key="claims",
        caption="What the plan claims",
        columns=(
            Column("claim", "Claim"),
            Column("tier", "Belongs to"),
            *([Column("expected", "The original plan expected")] if hopes else []),
            Column("measured", "Measured", digits=3),
            Column("verdict", "Verdict"),
            Column("why", "Over what, and what would decide it"),
        ),
        rows=tuple(
            (
                one.claim.name,
                one.claim.tier or "–",
                *([one.claim.expected or "–"] if hopes else []),
                _measured(one),
                one.verdict,
                one.why or "–",
            )
            for one in judged
        ),
        notes=_NOTES if hopes else _NOTES[:1],
    )


def _measured(one: JudgedClaim) -> Cell:
    if one.claim.measure in ("rows", "none"):
        return "–"
    return one.measured
