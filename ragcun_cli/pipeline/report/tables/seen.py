"""Which scores are on data that a training saw, and rows of scores that others published."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence

from ragcun_cli.pipeline.encoders.published import PublishedModel
from ragcun_cli.pipeline.encoders.trained_on import SOURCE, seen_by, trained_here, trained_on
from ragcun_cli.pipeline.report.rows import ModelRow, samples_of
from ragcun_cli.pipeline.report.table import DAGGER, Cell


def seen_scores(
    rows: Sequence[ModelRow], models: Mapping[str, PublishedModel]
) -> tuple[frozenset[tuple[str, str]], list[str]]:
    """Which scores are on data that a training saw, the row's own or its base's.

    Args:
        rows: that share their data sets.
        models: published ones, by the labels of their rows.

    Returns:
        Label and data set of each such score, and the labels of rows whose base's training is
        unknown: of those only their own training is looked at.
    """
    samples = samples_of(rows)
    known = [(row.label, seen_by(row.run), trained_here(row.run), row.datasets) for row in rows]
    for label, model in models.items():
        known.append((label, trained_on(model.name), frozenset(), list(model.scores)))
    daggers = frozenset(
        (label, name)
        for label, sets, here, scored in known
        for name in rows[0].run.profile.evaluation.datasets
        if name in scored and samples.get(name, name).partition("/")[0] in (sets or here)
    )
    return daggers, [label for label, sets, *_ in known if sets is None]


def published_row(
    label: str,
    model: PublishedModel,
    datasets: Sequence[str],
    averages: Sequence[Sequence[str]],
) -> tuple[Cell, ...]:
    """A row of the results table, `none` where no number is published."""
    scores = {name: score.ndcg for name, score in model.scores.items()}
    means = [
        statistics.fmean(scores[name] for name in sets) if scores.keys() >= set(sets) else "none"
        for sets in averages
    ]
    return (label, "none", *(scores.get(name, "none") for name in datasets), *means, "none", "none")


def seen_notes(
    daggers: Collection[tuple[str, str]],
    unknown: Sequence[str],
    models: Mapping[str, PublishedModel],
) -> list[str]:
    """What daggers mean, which rows may lack some, and where published rows are from."""
    said = {
        f"{DAGGER}: in domain: the row, or its base, was trained on a part of this data set, or of "
        "the one that it was made of; trainings of ragcun on its training split, never on test "
        f"queries. What bases saw is from {SOURCE}, which may lack some. "
        f"Sets are called unseen where no row has a {DAGGER}.": daggers,
        f"Scores may lack a {DAGGER} where it is unknown what a model or its base was trained on: "
        f"{', '.join(unknown)}.": unknown,
        "Published rows were not measured here, and have neither an interval nor a difference; "
        "prompts and lengths of texts may be others than here.": models,
    }
    sources = [f"{label}: {model.source}." for label, model in models.items()]
    return [*(note for note, occurs in said.items() if occurs), *sources]
