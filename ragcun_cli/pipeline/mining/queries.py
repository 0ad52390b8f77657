"""The judged queries that negatives are mined for: of training, and of dev where a set has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ragcun_cli.core.draw import TRAINING_QUERIES, smallest
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.lines import locate
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import QRELS
from ragcun_cli.spec.profile import DataConfig


@dataclass(frozen=True)
class JudgedQueries:
    """Queries of one split that have a relevant passage, in the order of the judgements."""

    qrels: beir.Qrels
    without_positive: int
    """Queries that are left out, as nothing relevant is known."""

    @property
    def most_relevant(self) -> int:
        """Relevant passages of the query that has most of them."""
        counts = (sum(grade > 0 for grade in judged.values()) for judged in self.qrels.values())
        return max(counts, default=0)


def training_queries(
    dataset: Path, corpus: Corpus, *, data: DataConfig, seed: int
) -> JudgedQueries:
    """Those to train on, or a sample of them.

    Raises:
        DataError: there are none.
    """
    found = judged_queries(dataset, corpus, "train")
    if not found.qrels:
        raise DataError(
            f"{dataset}: no training query has a relevant passage, one with a grade above 0",
            hint=f"ragcun data stats {dataset.name}",
        )
    if data.max_train_queries is None or data.max_train_queries >= len(found.qrels):
        return found
    kept = set(smallest(TRAINING_QUERIES, found.qrels, data.max_train_queries, seed=seed))
    qrels = {query: judged for query, judged in found.qrels.items() if query in kept}
    return JudgedQueries(qrels, found.without_positive)


def dev_queries(dataset: Path, corpus: Corpus) -> JudgedQueries | None:
    """All of the dev split; None where the set has no such split."""
    if not locate(dataset / QRELS, "dev.tsv").exists():
        return None
    return judged_queries(dataset, corpus, "dev")


def judged_queries(dataset: Path, corpus: Corpus, split: str) -> JudgedQueries:
    """Those of one split, with the judged passages that the corpus has."""
    read = beir.read_qrels(dataset, split)
    unknown = set(storing.unknown_passages(read, corpus))
    known = {
        query: {passage: grade for passage, grade in judged.items() if passage not in unknown}
        for query, judged in read.items()
    }
    qrels = {
        query: judged
        for query, judged in known.items()
        if any(grade > 0 for grade in judged.values())
    }
    return JudgedQueries(qrels, len(read) - len(qrels))
