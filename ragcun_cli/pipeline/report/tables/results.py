"""The tables of what a plan is for, retrieval, and of what it cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ragcun_cli.pipeline.data.sources import OUTSIDE_AVERAGES
from ragcun_cli.pipeline.encoders.published import published_model
from ragcun_cli.pipeline.report.contrasts import compare, difference_of
from ragcun_cli.pipeline.report.rows import ModelRow, samples_of
from ragcun_cli.pipeline.report.table import Cell, Column, Table, over_seeds
from ragcun_cli.pipeline.report.tables.seen import published_row, seen_notes, seen_scores
from ragcun_cli.spec.plan import PlannedContrast

ISOTROPY_NOTE = (
    "Isotropy is 1 − sd/mean of the covariance's eigenvalues over test queries, with the 95 % "
    "interval of other queries. It falls as dimensions grow and texts become fewer, and can be "
    "negative: compare rows of equal dimensions alone, and with what a perfect Gaussian of that "
    "size gives."
)
AVERAGES = (("average", "average_unseen"), ("", " unseen"))
"""Keys of the columns, and what is said of their sets."""

DEV_NOTE = (
    "Dev: queries held out of training, on which the kept model is the best of several, so that "
    "its own score there is too high."
)


def measured_sets(rows: Sequence[ModelRow]) -> tuple[list[str], list[str]]:
    """The sets that some row was evaluated on, and those of them that are averaged over."""
    datasets = rows[0].run.profile.evaluation.datasets
    shown = [name for name in datasets if any(row.means(name) for row in rows)]
    return shown, [name for name in shown if name not in OUTSIDE_AVERAGES] or shown


def reference_of(rows: Sequence[ModelRow]) -> ModelRow:
    """The row that differences are to: the untouched base, or else the first."""
    return next((row for row in rows if row.run.reference == "untouched"), rows[0])


def results_table(rows: Sequence[ModelRow], published: Sequence[str] = ()) -> Table:
    """nDCG@10 of every model on every set, their average, and its difference to the untouched base.

    Args:
        rows: that share their data sets.
        published: names of models whose published scores stand below them.
    """
    datasets = rows[0].run.profile.evaluation.datasets
    shown, averaged = measured_sets(rows)
    first = reference_of(rows)
    models = {f"{model.name} (published)": model for model in map(published_model, published)}
    daggers, unknown = seen_scores(rows, models)
    unseen = [name for name in averaged if name not in {seen for _, seen in daggers}]
    averages = [averaged, unseen] if unseen and unseen != averaged else [averaged]
    by_key = dict(zip(AVERAGES[0], averages, strict=False))
    columns = (
        Column("model", "Model"),
        Column("trainable_parameters", "Trainable"),
        *(
            Column(name, name.removeprefix("pydocs-"), digits=1, scale=100, is_set=True)
            for name in datasets
        ),
        *(
            Column(key, f"{_averaged(sets)}{of}", digits=1, scale=100)
            for key, of, sets in zip(*AVERAGES, averages, strict=False)
        ),
        Column("difference", f"Difference to {first.label}", digits=1, scale=100),
        Column("isotropy", "Isotropy", digits=3),
    )
    return Table(
        key="results",
        caption="Retrieval quality",
        columns=columns,
        rows=(
            *(_results_row(row, first, datasets, averages) for row in rows),
            *(published_row(*model, datasets, averages) for model in models.items()),
        ),
        notes=(*_notes(rows, shown, averaged), *seen_notes(daggers, unknown, models)),
        daggers=daggers,
        best=_best(rows, {name: [name] for name in shown} | by_key),
    )


def _best(
    rows: Sequence[ModelRow], sets: Mapping[str, Sequence[str]]
) -> frozenset[tuple[str, str]]:
    """Row and column of the best score of each column, and of what is not below it at 5 %.

    Of rows that were measured here; nothing where fewer than two were.
    """
    best = set()
    for key, names in sets.items():
        by_seed = {row.name: _by_seed(row, names) for row in rows}
        measured = {name: statistics.fmean(found) for name, found in by_seed.items() if found}
        if len(measured) < 2:
            continue
        first = max(measured, key=measured.__getitem__)
        for row in (row for row in rows if row.name in measured):
            found = compare(PlannedContrast(arm=row.name, against=first), rows, names).found
            if row.name == first or (found is not None and found.interval()[1] >= 0):
                best.add((row.label, key))
    return frozenset(best)


def _by_seed(row: ModelRow, names: Sequence[str]) -> list[float]:
    """The mean over sets of each seed; none unless every seed has all sets."""
    by_set = [means for name in names if (means := row.means(name)) is not None]
    if len(by_set) < len(names):
        return []
    return [statistics.fmean(seed) for seed in zip(*by_set, strict=True)]


def _of_seeds(rows: Sequence[ModelRow]) -> str:
    most = max((len(row.seeds) for row in rows if row.run.seed is not None), default=2)
    return " and other training seeds" if most > 1 else "; one seed is blind to training noise"


def _notes(rows: Sequence[ModelRow], shown: Sequence[str], averaged: Sequence[str]) -> list[str]:
    absent = [name for name in rows[0].run.profile.evaluation.datasets if name not in shown]
    notes = [
        "nDCG@10 in points, exact search. The difference is of the averages, with the 95 % "
        f"interval of other queries{_of_seeds(rows)}.",
        ISOTROPY_NOTE,
    ]
    if (similarity := rows[0].run.profile.evaluation.similarity) != "model":
        notes.append(f"Ranked by {similarity.replace('_', ' ')}, whatever the models' own is.")
    if averaged != shown:
        outside = ", ".join(name for name in shown if name not in averaged)
        notes.append(f"Beside the averages, which are of zero-shot sets: {outside}.")
    if samples := samples_of(rows):
        listed = ", ".join(f"{name} (of {of})" for name, of in samples.items())
        notes.append(f"Samples, whose scores are comparable with no others: {listed}.")
    said = [note for row in rows for seed in row.seeds for note in seed.proxies]
    notes += [f"{note[:1].upper()}{note[1:]}." for note in dict.fromkeys(said)]
    if absent:
        notes.append(f"Not measured here, and in no average: {', '.join(absent)}.")
    return notes


def _averaged(averaged: Sequence[str]) -> str:
    return f"Average of {len(averaged)}" if averaged else "Average"


def _results_row(
    row: ModelRow, first: ModelRow, datasets: Sequence[str], averages: Sequence[Sequence[str]]
) -> tuple[Cell, ...]:
    training = row.seeds[0].training
    scores = tuple(over_seeds(row.means(name) or []) for name in datasets)
    return (
        row.label,
        None if training is None else int(training.details["trainable_parameters"]),
        *scores,
        *(over_seeds(_by_seed(row, sets)) for sets in averages),
        "reference" if row is first else _difference(row, first, averages[0]),
        row.isotropy_cell("plan_score"),
    )


def _difference(row: ModelRow, first: ModelRow, averaged: Sequence[str]) -> Cell:
    planned = PlannedContrast(arm=row.name, against=first.name)
    found = compare(planned, (row, first), averaged).found
    return None if found is None else difference_of(found)


def cost_table(rows: Sequence[ModelRow]) -> Table:
    """What training and evaluation took; times, unlike scores, differ from run to run."""
    unchosen = all(_dev_score(row, "kept") in (None, "none") for row in rows)
    chosen = () if unchosen else ("kept", "last")
    columns = (
        Column("model", "Model"),
        Column("seeds", "Seeds"),
        Column("parameters", "Parameters"),
        Column("trainable_parameters", "Trainable"),
        Column("steps", "Steps"),
        Column("training_minutes", "Training minutes", digits=1),
        Column("examples_per_second", "Examples/s", digits=1),
        Column("evaluation_minutes", "Evaluation minutes", digits=1),
        Column("device", "Device"),
        *(Column(key, f"Dev nDCG@10, {key} model", digits=1, scale=100) for key in chosen),
    )
    return Table(
        key="cost",
        caption="Cost",
        columns=columns,
        rows=tuple((*_cost_row(row), *(_dev_score(row, key) for key in chosen)) for row in rows),
        notes=(
            "Sums over seeds, but the mean of examples per second; an example is a training row.",
            *([DEV_NOTE] if chosen else []),
        ),
    )


def _dev_score(row: ModelRow, key: str) -> Cell:
    """Of the kept encoder or of the last, on the queries that the kept one was chosen on."""
    details = [seed.training.details for seed in row.seeds if seed.training is not None]
    scores = [found[key] for each in details if (found := each.get("selection")) is not None]
    return over_seeds(scores) if len(scores) == len(row.seeds) else "none" if details else None


def _cost_row(row: ModelRow) -> tuple[Cell, ...]:
    records = [seed.training for seed in row.seeds if seed.training is not None]
    evaluations = [record for seed in row.seeds for record in seed.evaluations.values()]
    evaluation = sum(record.seconds for record in evaluations) / 60 if evaluations else None
    if len(records) < len(row.seeds):
        return (row.label, len(row.seeds), None, None, None, None, None, evaluation, None)
    details = [record.details for record in records]
    trained = row.run.reference is None
    minutes = sum(d["training_seconds"] for d in details) / 60 if trained else "none"
    rate = statistics.fmean(d["examples_per_second"] for d in details) if trained else "none"
    return (
        row.label,
        len(row.seeds),
        details[0]["parameters"],
        details[0]["trainable_parameters"],
        sum(d["steps"] for d in details) if trained else "none",
        minutes,
        rate,
        evaluation,
        ", ".join(sorted({record.device for record in [*records, *evaluations]})),
    )
