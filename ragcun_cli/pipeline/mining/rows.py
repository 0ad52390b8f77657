"""The rows that mining writes, and what stands behind one of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import DEV_MINING_DETAILS, DEV_NEGATIVES, MINING_DETAILS, NEGATIVES

FILES = {
    "train": (NEGATIVES, MINING_DETAILS),
    "dev": (DEV_NEGATIVES, DEV_MINING_DETAILS),
}
"""Split -> its rows, and one line of facts for each."""


@dataclass(frozen=True)
class MinedRow:
    """One training row, or one of dev, as ids."""

    query: str
    positive: str
    hard: tuple[str, ...]
    random: tuple[str, ...]


def read_rows(file: Path) -> Iterator[MinedRow]:
    """The mined rows, in the order of the judgements."""
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield MinedRow(row["query"], row["positive"], tuple(row["hard"]), tuple(row["random"]))


def look_up(folder: Path, dataset: Path, query: str) -> list[dict[str, Any]]:
    """A mined query, its positive and its negatives: kind, id, text, and each passage's score.

    Raises:
        DataError: the query was not mined.
    """
    for rows, details in FILES.values():
        with (folder / details).open(encoding="utf-8") as facts:
            for row, line in zip(read_rows(folder / rows), facts, strict=True):
                if row.query == query:
                    return _texts(row, json.loads(line), dataset)
    raise DataError(
        f"no query '{query}' was mined",
        hint=shlex.join(["head", "-n", "3", str(folder / NEGATIVES)]),
    )


def _texts(row: MinedRow, facts: dict[str, Any], dataset: Path) -> list[dict[str, Any]]:
    corpus = Corpus.open(dataset)
    kinds = [("positive", [row.positive], [facts["positive"]])]
    kinds += [("hard", list(row.hard), facts["hard"])]
    kinds += [("random", list(row.random), facts["random"])]
    text = beir.read_queries(dataset)[row.query]
    return [{"kind": "query", "id": row.query, "text": text}] + [
        {"kind": kind, "id": name, "score": score, "text": corpus.texts_by_id([name])[0]}
        for kind, names, scores in kinds
        for name, score in zip(names, scores, strict=True)
    ]
