"""The factor of query embeddings that makes Euclidean distance rank best.

Where queries and passages both fill N(0, I) and a query has cosine r with its passage, the best
score is ``2 r q.d - r^2 |d|^2``, which is ``-|q / r - d|^2`` up to a constant of the query: plain
Euclidean distance, with factor 1, favours short passages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from ragcun_cli.core.search.ranking import ExactTopK
from ragcun_cli.pipeline.encoders.encode import encode
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.dense import named_hits
from ragcun_cli.pipeline.search.held_out import digests_of, read_held_out
from ragcun_cli.pipeline.search.rankings import mean_ndcg, ranking_of
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import QUERY_SCALE
from ragcun_cli.spec.training_config import SelectionConfig

FACTORS = tuple(round(2 ** (step / 8), 6) for step in range(-8, 25))
"""Tried: from 1/2 to 8 in steps of an eighth of an octave."""

_QUERIES, _PASSAGES, _DEPTH = 1000, 10_000, 100


def write_query_scale(
    model: SentenceTransformer,
    folder: Path,
    name: str,
    draft: Path,
    *,
    config: EvaluationConfig,
    progress: Progress,
) -> dict[str, Any]:
    """Fit the factor on dev queries, write it with the score of every factor, and return it.

    nDCG@10 of up to 1,000 dev queries among their passages and 10,000 others; of equal scores the
    factor nearest to 1 is taken.

    Args:
        model: whose embeddings are compared by distance.
        folder: of the data set that has the dev queries.
        name: its name.
        draft: to write into.
        config: how texts are encoded.
        progress: is told.

    Raises:
        DataError: the data set has no dev queries.
    """
    chosen = SelectionConfig(queries=_QUERIES, passages=_PASSAGES)
    try:
        test = read_held_out(folder, name, "dev", chosen, seed=0)
    except DataError as error:
        raise DataError(
            f"scaled_euclidean is fitted on dev queries, and '{name}' has none: {error}",
            hint="--set evaluation.similarity=euclidean, or cosine, or dot",
        ) from error
    settings: Any = {
        "batch_size": config.batch_size,
        "precision": config.precision,
        "progress": progress,
    }
    asked, texts = list(test.queries.values()), test.corpus.texts
    queries = encode(model, asked, side="query", label="dev queries", **settings)
    passages = encode(model, texts, side="document", label="dev passages", **settings)
    curve = {}
    for factor in FACTORS:
        search = ExactTopK(factor * queries, k=_DEPTH, similarity="euclidean")
        search.add(passages, first_row=0)
        hits = named_hits(search.hits(), test.queries)
        curve[factor] = mean_ndcg(ranking_of(hits, test.corpus, depth=10), test)
    best = max(FACTORS, key=lambda factor: (curve[factor], -abs(factor - 1)))
    content = {
        "query_scale": best,
        "ndcg@10": curve[best],
        "ndcg@10_unscaled": curve[1.0],
        "dataset": name,
        "split": "dev",
        "queries": len(test.queries),
        "passages": len(test.corpus),
        "curve": [[factor, score] for factor, score in curve.items()],
        "query_digests": sorted(digests_of(test.queries)),
    }
    (draft / QUERY_SCALE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return {key: content[key] for key in ("query_scale", "ndcg@10", "ndcg@10_unscaled")}


def query_scale_of(run: Run) -> tuple[float, list[str]]:
    """The factor of a run, 1 where it is compared by none, and digests of what it was fitted on."""
    if run.profile.evaluation.similarity != "scaled_euclidean":
        return 1.0, []
    content = json.loads((run.folder / QUERY_SCALE).read_text(encoding="utf-8"))
    return float(content["query_scale"]), list(content["query_digests"])
