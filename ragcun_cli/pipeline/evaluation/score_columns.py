"""The scores of a data set's queries as columns, which a report reads in a moment."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.spec.measuring_config import FULL_FORM

if TYPE_CHECKING:
    from ragcun_cli.pipeline.search.rankings import QueryScores

ScoreColumn = tuple[str, str]
"""Form of the embeddings, metric."""


@dataclass(frozen=True)
class ScoreColumns:
    """Scores query by query, in the order of the queries' ids."""

    queries: Mapping[str, str]
    """Part of the data set, "" where it is one whole -> digest of its judged queries' ids."""

    values: Mapping[ScoreColumn, Mapping[str, NDArray[np.float64]]]
    """Part -> ``(n,)`` scores, of those columns that were read."""

    @classmethod
    def read(cls, content: bytes, wanted: Collection[ScoreColumn]) -> ScoreColumns:
        """Some columns of a file's content; those that it lacks are left out."""
        with np.load(io.BytesIO(content)) as file:
            parts = file["parts"].tolist()
            ends = np.cumsum(file["counts"])[:-1]
            there = [column for column in wanted if "/".join(column) in file]
            values = {
                column: dict(zip(parts, np.split(file["/".join(column)], ends), strict=True))
                for column in there
            }
            return cls(dict(zip(parts, file["queries"].tolist(), strict=True)), values)


def write_score_columns(file: Path, forms: Mapping[str, Mapping[str, QueryScores]]) -> None:
    """Write what ``ScoreColumns.read`` reads: NumPy's npz, a member ``form/metric`` a column.

    Args:
        file: to be made.
        forms: part -> form of the embeddings -> scores; every part has the same columns.
    """
    ids = [sorted(next(iter(found[FULL_FORM].values()))) for found in forms.values()]
    members = {
        "parts": np.array(list(forms)),
        "counts": np.array([len(queries) for queries in ids]),
        "queries": np.array([sha256("\n".join(one).encode()).hexdigest() for one in ids]),
    }
    columns: dict[str, list[float]] = {}
    for found, queries in zip(forms.values(), ids, strict=True):
        for form, by_metric in found.items():
            for metric, by_query in by_metric.items():
                column = columns.setdefault(f"{form}/{metric}", [])
                column += [by_query[query] for query in queries]
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **members, **columns)
