"""Which queries lead a base back to the passages that they were made for."""

from __future__ import annotations

from sentence_transformers import SentenceTransformer

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.dense import PLAIN, Search
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.spec.measuring_config import EvaluationConfig

WITHIN = 20
"""Rank down to which a passage counts as found."""


def found_again(model: SentenceTransformer, asked: JudgedSet, *, progress: Progress) -> set[str]:
    """Queries with a relevant passage among the first ``WITHIN`` of all passages.

    Passages are encoded as an evaluation with default settings does it, in the same blocks, so that
    where outputs of the model's base are kept, neither has to do it again.

    Args:
        model: compares by its own similarity.
        asked: queries, and passages that are searched.
        progress: is told.

    Raises:
        EncoderError: as `Search`.
    """
    shallow = EvaluationConfig(depth=100)
    hits = Search(model, asked, shallow, progress=progress).run()[PLAIN]
    found = set()
    for query, rows in zip(asked.queries, hits.rows, strict=True):
        if not asked.qrels[query].keys().isdisjoint(asked.corpus.ids_of(rows[:WITHIN])):
            found.add(query)
    return found
