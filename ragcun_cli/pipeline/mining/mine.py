"""Mine negatives for a training set: one row for each query, the same for every experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.core.draw import NEAR_DUPLICATES, POSITIVE, number_of, smallest
from ragcun_cli.core.negatives import Negatives, choose_negatives
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.find import FoundEncoder, load_model
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.mining.candidates import Candidates, Relevant
from ragcun_cli.pipeline.mining.journal import Journal
from ragcun_cli.pipeline.mining.queries import dev_queries, training_queries
from ragcun_cli.pipeline.mining.rows import FILES, MinedRow
from ragcun_cli.pipeline.mining.summary import summarise
from ragcun_cli.pipeline.search.hits import QueryHits, Scorer, Scores
from ragcun_cli.pipeline.search.lexical.rank import open_index
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import DENSE_SEARCH, MINING_SUMMARY, Workspace
from ragcun_cli.spec.profile import DataConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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
        DataError: the data set has no train judgements, its corpus is too small, or most of its
            training queries have no hit.
        WorkspaceError: the disk has no room for the embeddings of a dense mining.
    """
    corpus = Corpus.open(dataset)
    judged = {
        "train": training_queries(dataset, corpus, data=data, seed=seed),
        "dev": dev_queries(dataset, corpus),
    }
    texts = beir.read_queries(dataset)
    scorer = _scorer(mining, models or {}, device=device)
    index: LexicalIndex | SentenceTransformer
    if mining.candidates == "dense":
        index = load_model((models or {})["dense_model"].folder, device=device)
    else:
        index = open_index(dataset, corpus, mining, workspace=workspace, progress=progress)
    summaries: dict[str, dict[str, Any] | None] = {}
    for split, files in FILES.items():
        found = judged[split]
        journal = Journal(draft, files)
        if found is None:
            summaries[split] = None
            continue
        queries = {query: texts[query] for query in found.qrels}
        depth = mining.depth + found.most_relevant
        source: Scores
        if isinstance(index, LexicalIndex):
            left = dict(islice(queries.items(), journal.rows, None))
            source, hits = index, index.search_batches(left, depth=depth)
        else:
            from ragcun_cli.pipeline.mining.dense_index import DenseSearch

            folder = draft / DENSE_SEARCH
            source = DenseSearch(
                index, corpus, queries, depth=depth, folder=folder, name=split, progress=progress
            )
            hits = source.hits_from(journal.rows)
        miner = _Miner(corpus, found.qrels, queries, source, mining, seed, scorer)
        with journal, progress.bar(f"mine {split}", total=len(queries), unit="queries") as step:
            step(journal.rows)
            for row, facts in map(miner.row, hits):
                journal.add(asdict(row), facts)
                step(1)
        summaries[split] = summarise(
            draft / files[1],
            mining,
            passages=len(corpus),
            without_positive=found.without_positive,
        )
        if split == "train":
            _require_hits(summaries[split] or {}, mining)
    summary = {**(summaries["train"] or {}), "dev": summaries["dev"]}
    (draft / MINING_SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _require_hits(summary: Mapping[str, Any], mining: MiningConfig) -> None:
    """Stop where hits are wanted and most queries have none."""
    without, queries = summary["queries_without_hits"], summary["queries"]
    if mining.hard_share > 0 and 2 * without > queries:
        raise DataError(
            f"{without:,} of {queries:,} training queries share no word with any passage, so that "
            "their negatives would all be random: queries and passages may be of two languages, "
            "or queries of stop words alone",
            hint="--set mining.candidates=dense --set mining.dense_model=MODEL, or "
            "--set mining.hard_share=0 if random ones are wanted",
        )


@dataclass(frozen=True)
class _Miner:
    """Makes the rows of one split of what was found."""

    corpus: Corpus
    qrels: beir.Qrels
    queries: Mapping[str, str]
    source: Scores
    mining: MiningConfig
    seed: int
    scorer: Scorer | None

    def row(self, hits: QueryHits) -> tuple[MinedRow, dict[str, Any]]:
        """The row of a query and what the closing table is made of."""
        relevant = Relevant.of(self.qrels[hits.query], self.corpus)
        place = number_of(POSITIVE, hits.query, seed=self.seed) % len(relevant.ids)
        found = Candidates(
            self.source,
            self.corpus,
            self.queries[hits.query],
            hits,
            relevant,
            relevant.ids[place],
            self.mining,
            self.scorer,
            count_near=hits.query in self._counted,
        )
        chosen = self._choose(hits.query, found)
        row = MinedRow(hits.query, relevant.ids[place], chosen.hard, chosen.random)
        return row, found.facts(row.hard, row.random)

    @cached_property
    def _counted(self) -> frozenset[str]:
        return frozenset(smallest(NEAR_DUPLICATES, self.qrels, QUERIES_COUNTED, seed=self.seed))

    def _choose(self, query: str, candidates: Candidates) -> Negatives:
        judged, mining = self.qrels[query], self.mining
        try:
            return choose_negatives(
                candidates.ids,
                first=sorted(passage for passage, grade in judged.items() if grade <= 0),
                excluded=[passage for passage, grade in judged.items() if grade > 0],
                is_twin=candidates.is_twin,
                pool=self.corpus.ids,
                count=mining.negatives_per_query,
                hard_share=mining.hard_share,
                skip_top=mining.skip_top,
                seed=self.seed,
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
