"""What a plan hopes to show, judged by what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ragcun_cli.core.isotropy.half_samples import half_width
from ragcun_cli.core.rankings.contrasts import Contrast, t_quantile
from ragcun_cli.pipeline.report.contrasts import POINTS, average_of, compare, paired
from ragcun_cli.pipeline.report.rows import Measures, ModelRow
from ragcun_cli.pipeline.report.table import Cell, Difference, WithInterval
from ragcun_cli.spec.plan import Claim, PlannedContrast

BLIND = "blind to training noise"

Verdict = Literal["shown", "not met", "undecided", "not measured", "see evidence"]


@dataclass(frozen=True)
class JudgedClaim:
    """A claim and what was measured of it."""

    claim: Claim
    verdict: Verdict
    measured: Cell = None
    """In the claim's own units."""
    why: str = ""
    """Over what it was measured, and what would decide it."""


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by."""

    rows: Sequence[ModelRow]
    averaged: Sequence[str]
    """The data sets of the averages that were measured."""
    datasets: Sequence[str]
    """Those of the plan."""
    command: str
    """What would measure the rest."""

    def row(self, name: str | None) -> ModelRow | None:
        """A row by the name that plans have for it."""
        return next((row for row in self.rows if row.name == name), None)


def judge(claim: Claim, evidence: Evidence) -> JudgedClaim:
    """A gain of more than b is shown where its whole interval lies above b."""
    if claim.measure == "none":
        return JudgedClaim(claim, "see evidence", why=claim.evidence)
    judges = {
        "gain": _gain,
        "average": _average,
        "isotropy": _isotropy,
        "isotropy_gain": _isotropy_gain,
        "data_sets": _data_sets,
        "rows": _rows,
    }
    found = judges[claim.measure](claim, evidence)
    if found.verdict == "not measured" and not found.why:
        return replace(found, why=evidence.command)
    return found


def _gain(claim: Claim, evidence: Evidence) -> JudgedClaim:
    planned = PlannedContrast(arm=str(claim.arm), against=str(claim.against))
    if evidence.row(claim.arm) is None or evidence.row(claim.against) is None:
        return JudgedClaim(claim, "not measured")
    found = compare(planned, evidence.rows, evidence.averaged).found
    return _by_contrast(claim, found, evidence, shown=Difference)


def _average(claim: Claim, evidence: Evidence) -> JudgedClaim:
    row = evidence.row(claim.arm)
    found = None if row is None else average_of(row, evidence.averaged)
    return _by_contrast(claim, found, evidence, shown=WithInterval)


def _by_contrast(
    claim: Claim, found: Contrast | None, evidence: Evidence, *, shown: type[WithInterval]
) -> JudgedClaim:
    if found is None or claim.above is None:
        return JudgedClaim(claim, "not measured")
    low, high = (POINTS * end for end in found.interval())
    verdict = _verdict(claim.above, low, high)
    why = f"over {len(evidence.averaged)} of {len(evidence.datasets)} data sets"
    if found.seeds == 1:
        why += f"; {BLIND}"
    if verdict == "undecided":
        why += f"; {_decides(found, claim.above / POINTS)}"
    return JudgedClaim(claim, verdict, shown(POINTS * found.mean, low, high), why)


def _verdict(above: float, low: float, high: float) -> Verdict:
    if low > above:
        return "shown"
    return "not met" if high < above else "undecided"


def _decides(found: Contrast, above: float) -> str:
    """The seeds or the queries at which the interval would end where it now has its bound."""
    needed = ((found.mean - above) / t_quantile(0.975, found.df)) ** 2
    of_seeds = found.seeds_share * found.variance
    of_queries = found.variance - of_seeds
    if found.seeds > 1 and needed > of_queries and of_seeds > 0:
        seeds = math.ceil(found.seeds * of_seeds / (needed - of_queries))
        return f"{seeds:,} seeds would decide it, were it as measured"
    if needed > of_seeds:
        times = of_queries / (needed - of_seeds)
        return f"{times:,.1f} times the queries would decide it, were it as measured"
    return "neither more seeds nor more queries alone would decide it"


def _isotropy(claim: Claim, evidence: Evidence) -> JudgedClaim:
    row = evidence.row(claim.arm)
    if row is not None and not row.run.embeds:
        return JudgedClaim(claim, "not measured", why=f"{row.shown} has no embeddings")
    found = None if row is None else row.isotropy("queries")
    if found is None or claim.above is None:
        return JudgedClaim(claim, "not measured")
    values = [each["plan_score_corrected"] for each in found]
    interval = found[0]["intervals"]
    low, high = _ends(values, None if interval is None else interval["plan_score_corrected"])
    first = found[0]
    raw = np.mean([each["plan_score"] for each in found])
    why = (
        f"corrected for n = {first['texts']:,}; as the plan has it {raw:.3f}, where a perfect "
        f"Gaussian of that n and d = {first['dimensions']:,} has "
        f"{first['plan_score_of_gaussian']:.3f}"
    )
    return _with_seeds(claim, values, low, high, why, shown=WithInterval)


def _isotropy_gain(claim: Claim, evidence: Evidence) -> JudgedClaim:
    pairs = _pairs(evidence.row(claim.arm), evidence.row(claim.against))
    if not pairs:
        return JudgedClaim(claim, "not measured")
    if any(one[key] != of[key] for one, of in pairs for key in ("dimensions", "texts_digest")):
        return JudgedClaim(claim, "not measured", why="not comparable: other texts or dimensions")
    values = [one["plan_score_corrected"] - of["plan_score_corrected"] for one, of in pairs]
    half = None
    if all(each["half_differences"] is not None for each in pairs[0]):
        ours, theirs = (np.array(e["half_differences"]["plan_score_corrected"]) for e in pairs[0])
        width = half_width(ours - theirs)
        half = (values[0] - width, values[0] + width)
    raw = np.mean([one["plan_score"] - of["plan_score"] for one, of in pairs])
    low, high = _ends(values, half)
    own = f"{raw:+z.3f}".replace("-", "\N{MINUS SIGN}")
    why = f"of corrected scores; of the plan's own {own}"
    return _with_seeds(claim, values, low, high, why, shown=Difference)


def _pairs(arm: ModelRow | None, against: ModelRow | None) -> list[tuple[Measures, Measures]]:
    """Measures over queries of the seeds that both rows have; a row without seeds has all."""
    if arm is None or against is None:
        return []
    ours, theirs = (
        {s.run.seed: s.isotropy["queries"] for s in row.seeds if s.isotropy is not None}
        for row in (arm, against)
    )
    return paired(ours, theirs)


def _ends(values: Sequence[float], of_one: Sequence[float] | None) -> Sequence[float]:
    """Student's t over seeds; of one seed the interval of other texts; infinite without either."""
    if len(values) == 1:
        return (-math.inf, math.inf) if of_one is None else of_one
    mean, spread = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    half = t_quantile(0.975, len(values) - 1) * spread
    return float(mean - half), float(mean + half)


def _with_seeds(
    claim: Claim,
    values: Sequence[float],
    low: float,
    high: float,
    why: str,
    *,
    shown: type[WithInterval],
) -> JudgedClaim:
    assert claim.above is not None
    if len(values) == 1:
        why += f"; one seed: {BLIND}"
    mean = float(np.mean(values))
    verdict = _verdict(claim.above, low, high)
    if verdict == "undecided" and len(values) > 1 and mean != claim.above:
        seeds = math.ceil(len(values) * ((high - mean) / (mean - claim.above)) ** 2)
        why += f"; about {seeds:,} seeds would decide it, were it as measured"
    measured: Cell = shown(mean, low, high) if math.isfinite(low) else mean
    return JudgedClaim(claim, verdict, measured, why)


def _data_sets(claim: Claim, evidence: Evidence) -> JudgedClaim:
    assert claim.above is not None
    complete = [
        name for name in evidence.datasets if all(name in row.datasets for row in evidence.rows)
    ]
    lacking = [name for name in evidence.datasets if name not in complete]
    enough = len(complete) >= claim.above
    why = f"lacking: {', '.join(lacking)}; {evidence.command}" if lacking else ""
    measured = f"{len(complete)} of {len(evidence.datasets)}"
    if len(evidence.datasets) < claim.above:
        why = f"the plan has {len(evidence.datasets)} data sets"
        return JudgedClaim(claim, "not met", measured, why)
    return JudgedClaim(claim, "shown" if enough else "not measured", measured, why)


def _rows(claim: Claim, evidence: Evidence) -> JudgedClaim:
    found = [evidence.row(name) for name in claim.rows]
    if any(row is None or not row.datasets for row in found):
        return JudgedClaim(claim, "not measured")
    why = claim.evidence or f"the rows {', '.join(claim.rows)} of the results"
    return JudgedClaim(claim, "shown", None, why)
