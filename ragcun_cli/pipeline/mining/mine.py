"""Mine negatives for a training set: one row for each query, the same for every experiment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.core.draw import NEAR_DUPLICATES, POSITIVE, number_of, smallest
from ragcun_cli.core.negatives import Negatives, choose_negatives
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.find import FoundEncoder
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.mining.candidates import Candidates, Relevant
from ragcun_cli.pipeline.mining.journal import Journal
from ragcun_cli.pipeline.mining.queries import (
    JudgedQueries,
    dev_queries,
    training_queries,
)
from ragcun_cli.pipeline.mining.rows import FILES, MinedRow
from ragcun_cli.pipeline.mining.summary import summarise
from ragcun_cli.pipeline.search.hits import QueryHits, Scores
from ragcun_cli.pipeline.search.lexical.rank import open_index
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import DENSE_SEARCH, MINING_SUMMARY, Workspace
from ragcun_cli.spec.profile import DataConfig

if TYPE_CHECKING:
    from ragcun_cli.pipeline.mining.dense_index import DenseIndex
    from ragcun_cli.pipeline.mining.rescoring import Scorer

QUERIES_COUNTED = 1000
"""Of each split, those whose near duplicates are counted where none are left out: it takes the
texts of all hits."""


def mine(
    dataset: Path,
    draft: Path,
    *,
    data: DataConfig,
    mining: MiningConfig,
    seed: int,
    workspace: Workspace,
    progress: Progress,
    models: Mapping[str, FoundEncoder] | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write one row for each training query and each of dev; return the numbers of the table.

    Rows are written as they are found: what an earlier attempt left in the draft is kept, and the
    rest is the same as if it had never stopped. The file of a set without a dev split is empty.

    Args:
        dataset: folder of the training set.
        draft: folder to write into.
        data: which training queries.
        mining: how.
        seed: of the draws.
        workspace: keeps the BM25 index.
        progress: is told.
        models: those that the mining names, by key.
        device: where they compute.

    Raises:
        EncoderError: a model cannot be loaded, or its scores are of no use.
        DataError: the data set has no train judgements, or its corpus is too small.
        WorkspaceError: the disk has no room for the embeddings of a dense mining.
    """
    corpus = Corpus.open(dataset)
    judged = {
        "train": training_queries(dataset, corpus, data=data, seed=seed),
        "dev": dev_queries(dataset, corpus),
    }
    texts = beir.read_queries(dataset)
    scorer = _scorer(mining, models or {}, device=device)
    index: LexicalIndex | DenseIndex
    if mining.candidates == "dense":
        model = (models or {})["dense_model"]
        index = _dense_index(corpus, draft, model=model, device=device, progress=progress)
    else:
        index = open_index(dataset, corpus, mining, workspace=workspace, progress=progress)
    summaries: dict[str, dict[str, Any] | None] = {}
    for split, files in FILES.items():
        found = judged[split]
        journal = Journal(draft, files)
        if found is None:
            summaries[split] = None
            continue
        miner = _Miner(corpus, found, texts, index, mining, seed, scorer, name=split)
        with journal, progress.bar(f"mine {split}", total=len(found.qrels), unit="queries") as step:
            step(journal.rows)
            for row, facts in miner.rows_after(journal.rows):
                journal.add(asdict(row), facts)
                step(1)
        summaries[split] = summarise(
            draft / files[1],
            mining,
            passages=len(corpus),
            without_positive=found.without_positive,
        )
    summary = {**(summaries["train"] or {}), "dev": summaries["dev"]}
    (draft / MINING_SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


class _Miner:
    """Finds the rows of one split."""

    def __init__(
        self,
        corpus: Corpus,
        judged: JudgedQueries,
        texts: Mapping[str, str],
        index: LexicalIndex | DenseIndex,
        mining: MiningConfig,
        seed: int,
        scorer: Scorer | None,
        *,
        name: str,
    ) -> None:
        self._corpus, self._qrels = corpus, judged.qrels
        self._depth = mining.depth + judged.most_relevant
        self._queries = {query: texts[query] for query in judged.qrels}
        self._index, self._mining, self._seed, self._scorer = index, mining, seed, scorer
        self._name = name
        counted = smallest(NEAR_DUPLICATES, judged.qrels, QUERIES_COUNTED, seed=seed)
        self._counted = frozenset(counted)

    def rows_after(self, done: int) -> Iterator[tuple[MinedRow, dict[str, Any]]]:
        """Rows and what the closing table is made of, of all queries but the first ones."""
        if not self._queries:
            return
        source, searched = self._search(done)
        for hits in searched:
            judged = self._qrels[hits.query]
            relevant = Relevant.of(judged, self._corpus)
            place = number_of(POSITIVE, hits.query, seed=self._seed) % len(relevant.ids)
            found = Candidates(
                source,
                self._corpus,
                self._queries[hits.query],
                hits,
                relevant,
                relevant.ids[place],
                self._mining,
                self._scorer,
                count_near=hits.query in self._counted,
            )
            chosen = self._choose(hits.query, found)
            row = MinedRow(hits.query, relevant.ids[place], chosen.hard, chosen.random)
            yield row, found.facts(row.hard, row.random)

    def _search(self, done: int) -> tuple[Scores, Iterator[QueryHits]]:
        if isinstance(self._index, LexicalIndex):
            left = dict(islice(self._queries.items(), done, None))
            return self._index, self._index.search_batches(left, depth=self._depth)
        from ragcun_cli.pipeline.mining.dense_index import DenseSearch

        search = DenseSearch(self._index, self._queries, depth=self._depth, name=self._name)
        return search, search.hits_from(done)

    def _choose(self, query: str, candidates: Candidates) -> Negatives:
        judged, mining = self._qrels[query], self._mining
        try:
            return choose_negatives(
                candidates.ids,
                first=sorted(passage for passage, grade in judged.items() if grade <= 0),
                excluded=[passage for passage, grade in judged.items() if grade > 0],
                is_twin=candidates.is_twin,
                pool=self._corpus.ids,
                count=mining.negatives_per_query,
                hard_share=mining.hard_share,
                skip_top=mining.skip_top,
                seed=self._seed,
                query_id=query,
            )
        except ValueError as error:
            raise DataError(
                str(error), hint="a corpus with more passages, or fewer mining.negatives_per_query"
            ) from error


def _scorer(
    mining: MiningConfig, models: Mapping[str, FoundEncoder], *, device: str
) -> Scorer | None:
    if mining.rescore == "none":
        return None
    from ragcun_cli.pipeline.mining.rescoring import load_scorer

    return load_scorer(models["rescore_model"].folder, mining, device=device)


def _dense_index(
    corpus: Corpus, draft: Path, *, model: FoundEncoder, device: str, progress: Progress
) -> DenseIndex:
    from ragcun_cli.pipeline.mining.dense_index import DenseIndex
    from ragcun_cli.pipeline.mining.rescoring import DenseScores

    scorer = DenseScores(model.folder, device=device)
    return DenseIndex(scorer, corpus, folder=draft / DENSE_SEARCH, progress=progress)
