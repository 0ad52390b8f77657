"""Tables of what an evaluation says beside its scores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ragcun_cli.pipeline.evaluation.query_time import TIMES
from ragcun_cli.pipeline.report.rows import (
    MAIN_METRIC,
    ModelRow,
    calibrations,
    mean_over_sets,
)
from ragcun_cli.pipeline.report.table import Cell, Column, Table, over_seeds

CALIBRATION_COLUMNS = (
    Column("ece", "ECE", digits=3),
    Column("brier", "Brier", digits=3),
    Column("brier_of_base_rate", "Brier of the base rate", digits=3),
    Column("aurc", "AURC", digits=3),
    Column("aurc_random", "AURC of a random order", digits=3),
    Column("aurc_best", "AURC of a perfect order", digits=3),
    Column("auroc", "AUROC", digits=3),
)

_TIMED = ("encoding", "searching")
_FORMS = (("float32", "fp32"), ("int8", "int8"), ("binary", "binary"))


def evaluation_tables(rows: Sequence[ModelRow]) -> list[Table]:
    """Calibration of the best hit's score and, where they were scored, smaller embeddings."""
    found = [variants_table(rows), serving_table(rows)]
    return [calibration_table(rows), *(table for table in found if table is not None)]


def serving_table(rows: Sequence[ModelRow]) -> Table | None:
    """Milliseconds a query and megabytes a million passages; None where no time was measured."""
    body = [(row.label, *(_time(row, key) for key in _TIMED), *_sizes(row)) for row in rows]
    if not any(isinstance(cell, float) for cells in body for cell in cells):
        return None
    return Table(
        key="serving",
        caption="What a query takes, and what an index holds",
        columns=(
            Column("model", "Model"),
            *(Column(key, f"ms a query, {key}", digits=2) for key in _TIMED),
            *(Column(f"mb_{key}", f"MB a million passages, {name}") for key, name in _FORMS),
        ),
        rows=tuple(body),
        notes=(
            "Encoding is the median of queries encoded one by one; searching is exact, of all test "
            "queries together, a query's share. Times are of the machine and of what else it did; "
            "megabytes are of the vectors alone, without ids and texts.",
        ),
    )


def _time(row: ModelRow, key: str) -> Cell:
    if key == "encoding" and row.run.reference == "bm25":
        return "none"
    records = [record for seed in row.seeds for record in seed.evaluations.values()]
    found = [record.details.get(TIMES, {}).get(key) for record in records]
    return statistics.fmean(found) if found and None not in found else None


def _sizes(row: ModelRow) -> list[Cell]:
    if not row.run.embeds:
        return ["none"] * len(_FORMS)
    sets = row.datasets[:1]
    found = row.seeds[0].metrics[sets[0]]["settings"] if sets else {}
    known = found.get("bytes_per_passage", {})
    return [known.get(key) for key, _ in _FORMS]


def variants_table(rows: Sequence[ModelRow]) -> Table | None:
    """nDCG@10 of every model's smaller forms; None where none was scored."""
    body: list[tuple[Cell, ...]] = []
    for row in rows:
        sets = row.datasets
        if not sets or not row.seeds[0].metrics[sets[0]]["variants"]:
            continue
        sizes = row.seeds[0].metrics[sets[0]]["settings"]["bytes_per_passage"]
        plain = [mean_over_sets(seed.metrics, sets, ("metrics", MAIN_METRIC)) for seed in row.seeds]
        body.append((row.label, "as they are", sizes["float32"], over_seeds(plain), "reference"))
        for name in row.seeds[0].metrics[sets[0]]["variants"]:
            found = [
                mean_over_sets(seed.metrics, sets, ("variants", name, MAIN_METRIC))
                for seed in row.seeds
            ]
            lost = [
                None if ours is None or theirs is None else ours - theirs
                for ours, theirs in zip(found, plain, strict=True)
            ]
            body.append((row.label, name, sizes[name], over_seeds(found), over_seeds(lost)))
    if not body:
        return None
    return Table(
        key="variants",
        caption="Retrieval quality of smaller embeddings",
        columns=(
            Column("model", "Model"),
            Column("form", "Embeddings"),
            Column("bytes", "Bytes a passage"),
            Column("average", "nDCG@10", digits=1, scale=100),
            Column("lost", "Difference", digits=1, scale=100),
        ),
        rows=tuple(body),
        heading_columns=2,
        notes=(
            "Averages over the data sets, exact search of the smaller vectors. int8 and binary are "
            "fitted to 1,000 passages of each set; binary compares both sides by Hamming distance.",
            _bases_note([row for row in rows if row.label in {cells[0] for cells in body}]),
        ),
    )


def _bases_note(rows: Sequence[ModelRow]) -> str:
    """Which basis the outputs of each row stand in: smaller forms depend on it."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(_basis(row), []).append(row.label)
    listed = "; ".join(f"{basis}: {', '.join(labels)}" for basis, labels in groups.items())
    return (
        "Smaller forms depend on the basis of the outputs, which full vectors do not: compare rows "
        f"of one basis. {listed}. A training moves on from the basis that it starts in."
    )


def _basis(row: ModelRow) -> str:
    head = row.run.profile.encoder.head
    if row.run.reference == "untouched" or head.kind == "none":
        return "In the base's own"
    if head.init == "random":
        return "In that of a random head"
    if head.rotation == "none":
        return "In principal directions of the base"
    return f"In principal directions turned at random, seed {head.rotation_seed}"


def calibration_table(rows: Sequence[ModelRow]) -> Table:
    """How well the score of the best hit tells whether it is relevant, means over data sets."""
    body = [
        (row.label, *(_calibration_cell(row, column.key) for column in CALIBRATION_COLUMNS))
        for row in rows
    ]
    return Table(
        key="calibration",
        caption="Calibration of the best hit's score",
        columns=(Column("model", "Model"), *CALIBRATION_COLUMNS),
        rows=tuple(body),
        notes=(
            "Whether the best hit is relevant, predicted by its score: probabilities by Platt "
            "scaling on other queries, in ten bins of equal count. Chance alone makes an ECE above "
            "0, more so with fewer queries. Means over data sets with 20 queries or more.",
        ),
    )


def _calibration_cell(row: ModelRow, key: str) -> Cell:
    by_seed: list[float | None] = []
    for seed in row.seeds:
        means = []
        for name in row.datasets:
            parts = [part[key] for part in calibrations(seed.metrics[name])]
            if measured := [part for part in parts if part is not None]:
                means.append(statistics.fmean(measured))
        by_seed.append(statistics.fmean(means) if means else None)
    return over_seeds(by_seed)
