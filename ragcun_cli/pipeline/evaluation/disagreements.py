"""The queries of a data set on which two models disagree most."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ragcun_cli.pipeline.evaluation.looked import HITS, Looked, looked_at
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.rankings import read_run
from ragcun_cli.spec.paths import PER_QUERY, run_file

_DIGITS = 9
"""To which differences are compared, so that equal ones are equal however they were computed."""


def find_disagreements(
    tests: Sequence[JudgedSet], folders: Mapping[str, Path], count: int
) -> list[Looked]:
    """The queries with the largest difference in nDCG@10, the largest first.

    Of equal ones those come first whose ``HITS`` best passages have fewer in common, then the
    lesser id, then the earlier part of the data set.

    Args:
        tests: the parts of a data set.
        folders: label of each of two models -> folder of its evaluation on it, which is current.
        count: of queries; all are taken where there are fewer.
    """
    by_part = {test.part: test for test in tests}
    scores = {label: _ndcg(folder) for label, folder in folders.items()}
    rankings = {
        label: {part: read_run(folder / run_file(t.file_stem)) for part, t in by_part.items()}
        for label, folder in folders.items()
    }

    def found(part: str, query: str) -> dict[str, list[tuple[str, float]]]:
        return {label: own[part].get(query, []) for label, own in rankings.items()}

    def order(part: str, query: str) -> tuple[float, int, str, str]:
        one, other = ({name for name, _ in hits[:HITS]} for hits in found(part, query).values())
        first, second = (own[part, query] for own in scores.values())
        return -round(abs(first - second), _DIGITS), len(one & other), query, part

    return [
        looked_at(
            by_part[part].queries[query],
            by_part[part].corpus,
            found(part, query),
            by_part[part].qrels[query],
            query=f"{part}/{query}" if part else query,
            ndcg={label: own[part, query] for label, own in scores.items()},
            shared=shared,
        )
        for _, shared, query, part in sorted(order(*key) for key in scores[min(scores)])[:count]
    ]


def _ndcg(folder: Path) -> dict[tuple[str, str], float]:
    """Part and id of each judged query -> nDCG@10."""
    lines = (folder / PER_QUERY).read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return {(row.get("part", ""), row["query"]): row["ndcg@10"] for row in rows}
