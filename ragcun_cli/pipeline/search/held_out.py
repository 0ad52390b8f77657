"""The queries on which the best encoder of a training is chosen: none that is reported on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer

from ragcun_cli.core.draw import SELECTION_PASSAGES, SELECTION_QUERIES, smallest
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.dense import rank_dense
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_set
from ragcun_cli.pipeline.search.rankings import mean_ndcg
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import SELECTION
from ragcun_cli.spec.training_config import SelectionConfig


@dataclass(frozen=True)
class SelectionSet:
    """Some judged queries, and the passages they are ranked in."""

    test: JudgedSet
    batch_size: int

    def score(self, model: SentenceTransformer) -> float:
        """nDCG@10 of an encoder, in [0, 1]."""
        config = EvaluationConfig(depth=100, batch_size=self.batch_size)
        return mean_ndcg(rank_dense(model, self.test, config, progress=Silent()), self.test)

    def queries_of(self, queries: Mapping[str, str]) -> set[str]:
        """Ids of those queries that have the words of one of the selection."""
        chosen = {beir.words(text) for text in self.test.queries.values()}
        return {name for name, text in queries.items() if beir.words(text) in chosen}

    def write(self, folder: Path) -> None:
        """Keep digests of the queries, to tell test queries from them later."""
        content = {
            "dataset": self.test.name,
            "queries": sorted(map(_digest, self.test.queries.values())),
            "passages": len(self.test.corpus),
        }
        text = json.dumps(content, indent=1) + "\n"
        (folder / SELECTION).write_text(text, encoding="utf-8")


def read_selection_set(
    folder: Path, name: str, split: str, config: SelectionConfig, *, seed: int, batch_size: int
) -> SelectionSet:
    """A seeded sample of the judged queries of one split, with their passages and some others.

    Raises:
        DataError: the split is absent.
    """
    whole = read_judged_set(name, folder, split=split)
    relevant = {query: judged for query, judged in whole.qrels.items() if max(judged.values()) > 0}
    chosen = sorted(smallest(SELECTION_QUERIES, relevant, config.queries, seed=seed))
    needed = {passage for query in chosen for passage in relevant[query]}
    others = (passage for passage in whole.corpus.ids if passage not in needed)
    more = max(0, config.passages - len(needed))
    kept = needed.union(smallest(SELECTION_PASSAGES, others, more, seed=seed))
    rows = whole.corpus.rows_of(sorted(kept))
    corpus = whole.corpus.take(rows[rows >= 0])
    queries = {query: whole.queries[query] for query in chosen}
    test = JudgedSet(name, corpus, queries, {query: relevant[query] for query in chosen})
    return SelectionSet(test, batch_size)


def refuse_test_queries(digests: Iterable[str], test: JudgedSet, *, where: str) -> None:
    """Hold the selection's queries against the reported ones of a data set.

    Raises:
        DataError: they share a query, by its words.
    """
    chosen = set(digests)
    shared = [query for query, text in test.queries.items() if _digest(text) in chosen]
    if shared:
        raise DataError(
            f"{where}: {len(shared)} queries of the selection set are test queries of "
            f"'{test.name}', among them '{test.queries[shared[0]]}'; what is chosen on test "
            "queries cannot be reported on them",
            hint="--set training.selection.dataset=ANOTHER, or --set training.selection.queries=0",
        )


def recorded_digests(run: Path) -> list[str]:
    """Digests of the queries that a finished run was selected on; none without a selection."""
    file = run / SELECTION
    return list(json.loads(file.read_text(encoding="utf-8"))["queries"]) if file.exists() else []


def digests_of(queries: Mapping[str, str]) -> list[str]:
    """Digests of the words of some queries."""
    return [_digest(text) for text in queries.values()]


def _digest(text: str) -> str:
    return hashlib.sha256(beir.words(text).encode()).hexdigest()[:16]
