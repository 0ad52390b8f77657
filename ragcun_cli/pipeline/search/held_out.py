"""The queries on which the best encoder of a training is chosen: none that is reported on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer

from ragcun_cli.core.draw import SELECTION_PASSAGES, SELECTION_QUERIES, smallest
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.dense import rank_forms
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_set
from ragcun_cli.pipeline.search.rankings import mean_ndcg
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import FULL_FORM, EvaluationConfig
from ragcun_cli.spec.paths import SELECTION
from ragcun_cli.spec.training_config import SelectionConfig


@dataclass(frozen=True)
class SelectionSet:
    """Some judged queries of one or several sets, and the passages they are ranked in."""

    tests: Sequence[JudgedSet]
    batch_size: int
    variants: tuple[str, ...] = ()
    """Smaller forms of the embeddings that are scored, too."""

    @property
    def texts(self) -> list[str]:
        """Of all queries."""
        return [text for test in self.tests for text in test.queries.values()]

    def scores(self, model: SentenceTransformer) -> dict[str, float]:
        """nDCG@10 of an encoder, in [0, 1]: by set and form, as `fiqa/float32`."""
        config = EvaluationConfig(depth=100, batch_size=self.batch_size, variants=self.variants)
        return {
            f"{test.name}/{form or FULL_FORM}": mean_ndcg(ranking, test)
            for test in self.tests
            for form, ranking in rank_forms(model, test, config, progress=Silent()).items()
        }

    def queries_of(self, queries: Mapping[str, str]) -> set[str]:
        """Ids of those queries that have the words of one of the selection."""
        chosen = {beir.words(text) for text in self.texts}
        return {name for name, text in queries.items() if beir.words(text) in chosen}

    def write(self, folder: Path) -> None:
        """Keep digests of the queries, to tell test queries from them later."""
        content = {
            "dataset": ", ".join(test.name for test in self.tests),
            "queries": sorted(map(_digest, self.texts)),
            "passages": sum(len(test.corpus) for test in self.tests),
        }
        text = json.dumps(content, indent=1) + "\n"
        (folder / SELECTION).write_text(text, encoding="utf-8")


def read_held_out(
    folder: Path, name: str, split: str, config: SelectionConfig, *, seed: int
) -> JudgedSet:
    """A seeded sample of the judged queries of one split, with their passages and some others.

    Queries with the words of a query that the set reports on are left out.

    Raises:
        DataError: the split is absent, or no query is left.
    """
    whole = read_judged_set(name, folder, split=split)
    tested: set[str] = set()
    with suppress(DataError):  # where it reports on none of its queries
        if split != (reported := reported_split(name)):
            asked = read_judged_set(name, folder, split=reported).queries.values()
            tested = set(map(beir.words, asked))
    relevant = {
        query: judged
        for query, judged in whole.qrels.items()
        if max(judged.values()) > 0 and beir.words(whole.queries[query]) not in tested
    }
    if not relevant:
        raise DataError(f"'{name}' has no {split} queries that are none of those it reports on")
    chosen = sorted(smallest(SELECTION_QUERIES, relevant, config.queries, seed=seed))
    needed = {passage for query in chosen for passage in relevant[query]}
    others = (passage for passage in whole.corpus.ids if passage not in needed)
    more = max(0, config.passages - len(needed))
    kept = needed.union(smallest(SELECTION_PASSAGES, others, more, seed=seed))
    rows = whole.corpus.rows_of(sorted(kept))
    corpus = whole.corpus.take(rows[rows >= 0])
    queries = {query: whole.queries[query] for query in chosen}
    return JudgedSet(name, corpus, queries, {query: relevant[query] for query in chosen})


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
