"""Score run files: metrics, per-query scores, smaller embeddings, calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragcun_cli.core.rankings.calibration import calibration, fold_numbers
from ragcun_cli.core.rankings.hubness import hubness
from ragcun_cli.core.rankings.metrics import mean, metrics_to
from ragcun_cli.pipeline.evaluation.score_columns import write_score_columns
from ragcun_cli.pipeline.search.dense import VARIANT_DEPTH
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.rankings import QueryScores, Ranking, read_run, score_ranking
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.paths import METRICS_FILE as METRICS_FILE
from ragcun_cli.spec.paths import PER_QUERY, SCORES, run_file

HUB_RANKS = 10
"""Places that make a passage a hub."""


def write_scores(
    tests: Sequence[JudgedSet],
    folder: Path,
    draft: Path,
    *,
    depth: int,
    variants: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Score run files, write the metrics and the per-query scores, and return the metrics.

    Of a data set of several parts the means are means over parts.

    Args:
        tests: the parts of a data set.
        folder: of the evaluation, which has the run files.
        draft: to write into.
        depth: of the rankings.
        variants: smaller forms of the embeddings that have run files, too.
        settings: how passages were encoded and ranked, kept beside the scores.
    """
    draft.mkdir(parents=True, exist_ok=True)
    parts: dict[str, dict[str, float]] = {}
    forms: dict[str, dict[str, QueryScores]] = {}
    calibrations: dict[str, Any] = {}
    rankings: list[Ranking] = []
    with (draft / PER_QUERY).open("w", encoding="utf-8", newline="\n") as stream:
        for test in tests:
            ranking = read_run(folder / run_file(test.file_stem))
            rankings.append({query: hits[:HUB_RANKS] for query, hits in ranking.items()})
            scores = score_ranking(ranking, test, depth=depth)
            parts[test.part] = _means(scores)
            calibrations[test.part] = _calibration(ranking, test)
            mark = {"part": test.part} if test.part else {}
            smaller = {name: _of_variant(name, test, folder) for name in variants}
            forms[test.part] = {FULL_FORM: scores, **smaller}
            for query in sorted(test.qrels):
                row = {"query": query, **mark, **{m: by[query] for m, by in scores.items()}}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    means = {metric: mean(part[metric] for part in parts.values()) for metric in metrics_to(depth)}
    content = {
        "dataset": tests[0].name.partition("/")[0],
        "queries": sum(len(test.qrels) for test in tests),
        "passages": sum(len(test.corpus) for test in tests),
        "metrics": means,
        "settings": dict(settings),
        "variants": {
            name: _over_parts([_means(found[name]) for found in forms.values()])
            for name in variants
        },
        "hubness": _over_parts([_hubness(one, t) for one, t in zip(rankings, tests, strict=True)]),
        "calibration": calibrations if len(tests) > 1 else calibrations[tests[0].part],
        **({"parts": parts} if len(tests) > 1 else {}),
    }
    write_score_columns(draft / SCORES, forms)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (draft / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
    return content


def _means(scores: QueryScores) -> dict[str, float]:
    return {metric: mean(by_query.values()) for metric, by_query in scores.items()}


def _of_variant(name: str, test: JudgedSet, folder: Path) -> QueryScores:
    """Scores of a smaller form of the embeddings."""
    ranking = read_run(folder / run_file(test.file_stem, name))
    return score_ranking(ranking, test, depth=VARIANT_DEPTH)


def _hubness(ranking: Ranking, test: JudgedSet) -> dict[str, Any]:
    """How unevenly the passages share the first places, under the distance that ranked them."""
    firsts = [[passage for passage, _ in ranking.get(query, [])] for query in test.qrels]
    return asdict(hubness(firsts, passages=len(test.corpus), k=HUB_RANKS))


def _over_parts(found: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the parts of a data set; None where a part has none."""
    if len(found) == 1:
        return dict(found[0])
    means: dict[str, float | None] = {}
    for key in found[0]:
        measured = [value for one in found if (value := one[key]) is not None]
        means[key] = mean(measured) if len(measured) == len(found) else None
    return means


def _calibration(ranking: Ranking, test: JudgedSet) -> dict[str, Any]:
    """How well the score of the best hit predicts that it is relevant."""
    best = {query: ranking[query][0] for query in sorted(test.qrels) if ranking.get(query)}
    return asdict(
        calibration(
            [score for _, score in best.values()],
            [test.qrels[query].get(passage, 0) > 0 for query, (passage, _) in best.items()],
            folds=fold_numbers(best),
        )
    )
