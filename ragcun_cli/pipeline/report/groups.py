"""Contrasts within groups of queries: by a column of their metadata, or by their length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.contrasts import POINTS, compare, difference_of
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.table import Cell, Column, Table
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.plan import PlannedContrast

LENGTH = "length"
QUARTILES = ("shortest quarter", "second quarter", "third quarter", "longest quarter")
MOST_GROUPS = 20
NOT_STATED = "not stated"

Groups = Mapping[str, Mapping[str, NDArray[np.str_]]]
"""Data set -> part -> group of each judged query, in the order of their ids."""


def groups_of(folders: Mapping[str, Path], column: str) -> Groups:
    """The groups of the judged queries of some data sets.

    Args:
        folders: data set -> where it is stored.
        column: of the queries' metadata, or `length` for quarters of each set by words.

    Raises:
        DataError: no query has such a column, or it has too many values to be groups.
    """
    found = {name: _groups_of_set(name, folder, column) for name, folder in folders.items()}
    each = [groups for parts in found.values() for groups in parts.values()]
    values = sorted(set(np.concatenate(each).tolist()) if each else set())
    if values in ([], [NOT_STATED]):
        raise DataError(
            f"no query of {', '.join(folders)} has a column '{column}'",
            hint=f"ragcun report --by {LENGTH}",
        )
    if len(values) > MOST_GROUPS:
        raise DataError(
            f"'{column}' has {len(values):,} values, as {', '.join(values[:3])}: more than "
            f"{MOST_GROUPS} are no groups",
            hint=f"ragcun report --by {LENGTH}",
        )
    return found


def _groups_of_set(name: str, folder: Path, column: str) -> dict[str, NDArray[np.str_]]:
    parts = beir.parts(folder)
    found = {}
    for part in parts:
        asked = sorted(beir.read_qrels(part, reported_split(name)))
        texts = beir.read_queries(part)
        if column == LENGTH:
            words = np.array([len(texts[query].split()) for query in asked])
            edges = np.quantile(words, (0.25, 0.5, 0.75))
            groups = np.array(QUARTILES)[np.searchsorted(edges, words)]
        else:
            metadata = beir.read_query_metadata(part)
            groups = np.array(
                [str(metadata.get(query, {}).get(column, NOT_STATED)) for query in asked]
            )
        found["" if parts == [folder] else part.name] = groups
    return found


def groups_table(
    planned: Sequence[PlannedContrast],
    rows: Sequence[ModelRow],
    sets: Sequence[str],
    groups: Groups,
    column: str,
) -> Table:
    """Every planned contrast within each group; exploratory, so that nothing is marked."""
    each = [found for parts in groups.values() for found in parts.values()]
    values = sorted(set(np.concatenate(each).tolist()))
    if column == LENGTH:
        values = [quarter for quarter in QUARTILES if quarter in values]
    body: list[tuple[Cell, ...]] = []
    for one in planned:
        for value in values:
            pair = [_only(row, groups, value) for row in rows if row.name in (one.arm, one.against)]
            there = [name for name in sets if all(name in s.scores for r in pair for s in r.seeds)]
            found = compare(one, pair, there)
            count = sum(map(len, found.by_query.values()))
            cell = found.why if found.found is None else difference_of(found.found)
            body.append((found.name, value, len(there), count, cell))
    return Table(
        key="contrasts-by-group",
        caption=f"The contrasts within groups of queries by {column}",
        columns=(
            Column("contrast", "Contrast"),
            Column("group", f"Group by {column}"),
            Column("sets", "Data sets"),
            Column("queries", "Queries"),
            Column("difference", "Difference", digits=2, scale=POINTS),
        ),
        rows=tuple(body),
        notes=(
            "Exploratory: points with 95 % intervals of each group alone, uncorrected, and no test "
            "of the differences between groups. A part of a data set with fewer than two queries "
            "of a group is left out of it.",
        ),
        heading_columns=2,
    )


def _only(row: ModelRow, groups: Groups, value: str) -> ModelRow:
    """A row with the scores of one group's queries."""
    seeds = []
    for seed in row.seeds:
        scores = {
            name: some
            for name, found in seed.scores.items()
            if name in groups and (some := _of_group(found, groups[name], value)).queries
        }
        seeds.append(replace(seed, scores=scores))
    return replace(row, seeds=tuple(seeds))


def _of_group(
    scores: ScoreColumns, groups: Mapping[str, NDArray[np.str_]], value: str
) -> ScoreColumns:
    kept = {part: found == value for part, found in groups.items() if sum(found == value) > 1}
    return ScoreColumns(
        {part: digest for part, digest in scores.queries.items() if part in kept},
        {
            column: {part: of[part][mask] for part, mask in kept.items()}
            for column, of in scores.values.items()
        },
    )
