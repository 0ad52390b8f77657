"""The tables of isotropy: of queries, and of passages, pairs and hubs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from ragcun_cli.core.isotropy.half_samples import half_width
from ragcun_cli.core.isotropy.spectrum import plan_score_of_gaussian
from ragcun_cli.pipeline.report.rows import ModelRow, shared_datasets
from ragcun_cli.pipeline.report.table import (
    Cell,
    Column,
    Difference,
    Table,
    over_seeds,
)

LEAST_OF_GAUSSIAN = "plan_score_corrected_of_gaussian"

MEASURE_COLUMNS = (
    Column("texts", "n"),
    Column("dimensions", "d"),
    Column("plan_score", "1 − sd/mean", digits=3),
    Column("plan_score_of_gaussian", "1 − sd/mean, of a Gaussian", digits=3),
    Column("plan_score_corrected", "Corrected", digits=3),
    Column(LEAST_OF_GAUSSIAN, "Corrected, least of a Gaussian", digits=3),
    Column("participation_ratio", "Participation ratio", digits=1),
    Column("isoscore", "IsoScore", digits=3),
    Column("effective_rank", "Effective rank", digits=1),
    Column("mean_cosine", "Mean cosine", digits=3),
    Column("sigreg", "SIGReg (unbiased)", digits=4),
    Column("sigreg_rescaled", "SIGReg, rescaled", digits=4),
    Column("uniformity", "Uniformity", digits=3),
    Column("norm_spread", "Sd/mean of length", digits=3),
)
PAIR_COLUMNS = (
    Column("pairs", "Pairs"),
    Column("alignment", "Alignment", digits=3),
    Column("mean_gap", "Mean gap", digits=3),
)
HUB_COLUMNS = (
    Column("skewness", "Hub skewness", digits=2),
    Column("skewness_of_chance", "Hub skewness by chance", digits=2),
    Column("anti_hub_share", "Anti-hubs", digits=3),
    Column("anti_hub_share_of_chance", "Anti-hubs by chance", digits=3),
    Column("most", "Largest hub", digits=0),
)
PASSAGE_COLUMNS = tuple(c for c in MEASURE_COLUMNS if c.key not in ("isoscore", "sigreg"))


def isotropy_tables(rows: Sequence[ModelRow]) -> list[Table]:
    """Of the queries, and of passages, pairs and hubs; BM25, without embeddings, has no row."""
    dense = [row for row in rows if row.run.embeds]
    return [queries_table(dense), passages_table(dense)]


def queries_table(rows: Sequence[ModelRow]) -> Table:
    """Every measure over the test queries, and the difference to the base through the same head."""
    reference = _reference(rows)
    extra = (
        ()
        if reference is None
        else (Column("difference", "Difference to untouched_start", digits=3),)
    )
    body = []
    for row in rows:
        cells = _measure_cells(row, "queries", MEASURE_COLUMNS)
        own = () if reference is None else (_difference(row, reference),)
        body.append((row.label, *cells, *own))
    notes = [
        "Over test queries. 1 − sd/mean of all d eigenvalues of the covariance, with the 95 % "
        "interval of other queries (balanced half-samples), beside what a perfect Gaussian of that "
        "n and d gives; it falls with d, rises with n and can be negative. Corrected: without the "
        "bias of n, beside the lower end of a perfect Gaussian's 95 % interval, which ends at 1.",
        "SIGReg and uniformity are of at most 20,000 queries; SIGReg is of the vectors as they are "
        "served, and rescaled to the mean square of N(0, I), where it says nothing of scale. "
        "Compare rows of equal n and d alone.",
        *_untouched_note(rows),
    ]
    return Table(
        key="isotropy",
        caption="Isotropy of the query embeddings",
        columns=(Column("model", "Model"), *MEASURE_COLUMNS, *extra),
        rows=tuple(body),
        notes=tuple(notes),
    )


def passages_table(rows: Sequence[ModelRow]) -> Table:
    """Measures over passages, of relevant pairs, and of hubs where evaluations are there."""
    sets = shared_datasets(rows)
    hubs = HUB_COLUMNS if sets else ()
    body = [
        (
            row.label,
            *_measure_cells(row, "passages", PASSAGE_COLUMNS),
            *_measure_cells(row, "pairs", PAIR_COLUMNS),
            *(_hub_cell(row, column.key, sets) for column in hubs),
        )
        for row in rows
    ]
    limit = rows[0].run.profile.isotropy.max_passages if rows else 0
    notes = [
        f"Over at most {limit:,} passages, chosen by the digests of their ids. Alignment: mean "
        "squared distance of a query and a relevant passage at unit length. Mean gap: squared "
        "distance of the means of both, over the mean squared length.",
    ]
    if sets:
        notes.append(
            "Hubs: how unevenly passages share the first ten places of the rankings, and what ten "
            f"random passages a query give; means over {', '.join(sets)}."
        )
    return Table(
        key="isotropy-passages",
        caption="Isotropy of the passage embeddings, relevant pairs and hubs",
        columns=(Column("model", "Model"), *PASSAGE_COLUMNS, *PAIR_COLUMNS, *hubs),
        rows=tuple(body),
        notes=tuple(notes),
    )


def _measure_cells(row: ModelRow, side: str, columns: Sequence[Column]) -> tuple[Cell, ...]:
    return tuple(
        _least_of_gaussian(row, side)
        if column.key == LEAST_OF_GAUSSIAN
        else row.isotropy_cell(column.key, side)
        for column in columns
    )


def _least_of_gaussian(row: ModelRow, side: str) -> Cell:
    measured = row.isotropy(side)
    if measured is None:
        return None
    return float(measured[0]["gaussian_intervals"]["plan_score_corrected"][0])


def _reference(rows: Sequence[ModelRow], name: str = "untouched_start") -> ModelRow | None:
    return next((row for row in rows if row.run.reference == name), None)


def _difference(row: ModelRow, reference: ModelRow) -> Cell:
    """Of the plan's score, over the same queries in as many dimensions; else words."""
    if row.run.reference == "untouched_start":
        return "reference" if row is reference else "another reference"
    ours, theirs = row.isotropy("queries"), reference.isotropy("queries")
    if ours is None or theirs is None:
        return None
    base = theirs[0]
    if any(each[key] != base[key] for each in ours for key in ("texts", "dimensions")):
        return "other n or d"
    if any(each["texts_digest"] != base["texts_digest"] for each in ours):
        return "other texts"
    value = statistics.fmean(each["plan_score"] for each in ours) - base["plan_score"]
    halves = [each["half_differences"] for each in (*ours, base)]
    if any(half is None for half in halves):
        return float(value)
    *own, of_base = [np.array(half["plan_score"]) for half in halves]
    width = half_width(np.mean(own, axis=0) - of_base)
    return Difference(value, value - width, value + width)


def _untouched_note(rows: Sequence[ModelRow]) -> list[str]:
    """That the untouched base in its own dimensions compares with no other row."""
    untouched = _reference(rows, "untouched")
    measured = None if untouched is None else untouched.isotropy("queries")
    others = [found for row in rows if row is not untouched and (found := row.isotropy("queries"))]
    if measured is None or not others:
        return []
    n, own, other = measured[0]["texts"], measured[0]["dimensions"], others[0][0]["dimensions"]
    if own == other:
        return []
    ours, theirs = (f"{plan_score_of_gaussian(n, dimensions=d):.3f}" for d in (own, other))
    note = (
        f"untouched stands in its own {own} dimensions, where a perfect Gaussian scores {ours} and "
        f"not {theirs} as in {other}: it compares with no other row."
    )
    if _reference(rows) is not None:
        note += (
            " untouched_start is the same base through the untrained linear head, and what "
            "differences are taken from; their 95 % interval is of other queries, and blind to "
            "training seeds."
        )
    return [note]


def _hub_cell(row: ModelRow, key: str, sets: Sequence[str]) -> Cell:
    by_seed = []
    for seed in row.seeds:
        values = [seed.metrics[name]["hubness"][key] for name in sets]
        if any(value is None for value in values):
            return None
        by_seed.append(statistics.fmean(values))
    return over_seeds(by_seed)
