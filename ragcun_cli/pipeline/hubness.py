"""Hubness of the rankings that an evaluation has written."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ragcun_cli.core.hubness import hubness
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.paths import TREC_RUN

K = 10
_COLUMNS = ("query", "iteration", "passage", "rank", "score", "tag")


def first_hits(run_file: Path, *, k: int = K) -> Iterator[list[str]]:
    """The best k passage ids of each query of a TREC run, queries in the order of the file.

    Raises:
        WorkspaceError: it cannot be read as one.
    """
    types = {name: pa.string() for name in _COLUMNS} | {"rank": pa.int64(), "score": pa.float64()}
    try:
        reader = csv.open_csv(
            run_file,
            read_options=csv.ReadOptions(column_names=list(_COLUMNS)),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=["query", "passage", "rank"]
            ),
        )
        hits = [batch.filter(pc.less_equal(batch["rank"], k)) for batch in reader]
    except (pa.ArrowException, OSError) as error:
        raise WorkspaceError(
            f"{run_file} cannot be read as a TREC run: {error}", hint="ragcun eval --force"
        ) from error
    found: dict[str, list[str]] = {}
    for batch in hits:
        columns = (batch[name].to_pylist() for name in ("query", "passage"))
        for query, passage in zip(*columns, strict=True):
            found.setdefault(query, []).append(passage)
    yield from found.values()


def hubness_of(run_file: Path, passages: int) -> dict[str, Any]:
    """Hubness at k = 10 of one run over a corpus of so many passages, as JSON.

    Raises:
        WorkspaceError: the file cannot be read as a run.
    """
    return asdict(hubness(first_hits(run_file), passages=passages, k=K))


def hubness_of_set(folder: Path, parts: Mapping[str, int]) -> dict[str, Any]:
    """Hubness of one evaluated data set; of one of several parts means over them, as of scores.

    Args:
        folder: of its evaluation, with a run file, or one for each part in a folder of its name.
        parts: name of a part -> passages in it; "" where the set is one whole.

    Raises:
        WorkspaceError: a run file cannot be read.
    """
    found = [hubness_of(folder / part / TREC_RUN, passages) for part, passages in parts.items()]
    if len(found) == 1:
        return found[0]
    return {name: _mean([each[name] for each in found]) for name in found[0]}


def _mean(values: list[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return statistics.fmean(measured) if len(measured) == len(values) else None
