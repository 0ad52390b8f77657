"""Mine the negatives of a training set: one row for each query, the same for every experiment."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.core.negatives import Negatives, choose_negatives
from ragcun_cli.pipeline.candidates import Candidates, Relevant
from ragcun_cli.pipeline.data import beir, storing
from ragcun_cli.pipeline.data.corpus import Corpus
from ragcun_cli.pipeline.data.records import read_record
from ragcun_cli.pipeline.encoders import FoundEncoder
from ragcun_cli.pipeline.hits import Scores
from ragcun_cli.pipeline.journal import Journal
from ragcun_cli.pipeline.lexical import LexicalIndex
from ragcun_cli.pipeline.lexical_index import recipe
from ragcun_cli.pipeline.mining_summary import summarise
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.paths import DENSE_HITS, MINING_DETAILS, MINING_SUMMARY, NEGATIVES, Workspace
from ragcun_cli.spec.profile import DataConfig, MiningConfig

if TYPE_CHECKING:
    from ragcun_cli.pipeline.dense_search import DenseSearch
    from ragcun_cli.pipeline.rescoring import Scorer


@dataclass(frozen=True)
class MinedRow:
    """One training row, as ids."""

    query: str
    positive: str
    hard: tuple[str, ...]
    random: tuple[str, ...]


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
    """Write one row for each training query, and return the numbers of the closing table.

    Rows are written as they are found: what an earlier attempt left in the draft is kept, and the
    rest is the same as if it had never stopped.

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
    """
    corpus = Corpus.open(dataset)
    qrels, without = _training_qrels(dataset, corpus, data=data, seed=seed)
    texts = beir.read_queries(dataset)
    journal = Journal(draft, (NEGATIVES, MINING_DETAILS))
    queries = {query: texts[query] for query in qrels}
    most = max(sum(grade > 0 for grade in judged.values()) for judged in qrels.values())
    scorer = _scorer(mining, models or {}, device=device)
    depth, done = mining.depth + most, journal.rows
    source: Scores
    if mining.candidates == "dense":
        model = (models or {})["dense_model"]
        source = search = _dense_search(
            corpus, queries, draft, depth=depth, model=model, device=device, progress=progress
        )
        searched = search.hits_of(islice(queries, done, None))
    else:
        source = index = open_index(dataset, corpus, mining, workspace=workspace, progress=progress)
        searched = index.search_batches(dict(islice(queries.items(), done, None)), depth=depth)
    with journal, progress.bar("mine", total=len(qrels), unit="queries") as advance:
        advance(done)
        for hits in searched:
            judged, text = qrels[hits.query], queries[hits.query]
            relevant = Relevant.of(judged, corpus)
            drawn = _draw(f"{seed}:{hits.query}:positive") % len(relevant.ids)
            positive = relevant.ids[drawn]
            found = Candidates(source, corpus, text, hits, relevant, positive, mining, scorer)
            chosen = _choose(hits.query, found, judged, corpus.ids, mining=mining, seed=seed)
            row = MinedRow(hits.query, positive, chosen.hard, chosen.random)
            journal.add(asdict(row), found.facts(row.hard, row.random))
            advance(1)
    summary = summarise(
        draft / MINING_DETAILS, mining, passages=len(corpus), without_positive=without
    )
    (draft / MINING_SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _scorer(
    mining: MiningConfig, models: Mapping[str, FoundEncoder], *, device: str
) -> Scorer | None:
    if mining.rescore == "none":
        return None
    from ragcun_cli.pipeline.rescoring import load_scorer

    return load_scorer(models["rescore_model"].folder, mining, device=device)


def _dense_search(
    corpus: Corpus,
    queries: Mapping[str, str],
    draft: Path,
    *,
    depth: int,
    model: FoundEncoder,
    device: str,
    progress: Progress,
) -> DenseSearch:
    from ragcun_cli.pipeline.dense_search import DenseSearch
    from ragcun_cli.pipeline.rescoring import DenseScores

    scorer = DenseScores(model.folder, device=device)
    file = draft / DENSE_HITS
    return DenseSearch(scorer, corpus, queries, depth=depth, file=file, progress=progress)


def _choose(
    query: str,
    candidates: Candidates,
    judged: Mapping[str, int],
    pool: Sequence[str],
    *,
    mining: MiningConfig,
    seed: int,
) -> Negatives:
    try:
        return choose_negatives(
            candidates.ids,
            first=sorted(passage for passage, grade in judged.items() if grade <= 0),
            excluded=[passage for passage, grade in judged.items() if grade > 0],
            is_twin=candidates.is_twin,
            pool=pool,
            count=mining.negatives_per_query,
            hard_share=mining.hard_share,
            skip_top=mining.skip_top,
            seed=seed,
            query_id=query,
        )
    except ValueError as error:
        raise DataError(str(error)) from error


def open_index(
    dataset: Path,
    corpus: Corpus,
    mining: MiningConfig,
    *,
    workspace: Workspace,
    progress: Progress,
) -> LexicalIndex:
    """The BM25 index of a data set, from the workspace's cache, where it is made if need be."""
    sha256 = read_record(dataset).sha256
    folder = workspace.lexical_index(digest(recipe(sha256, mining)))
    return LexicalIndex.open_or_build(
        corpus, mining, digest=sha256, folder=folder, progress=progress
    )


def _training_qrels(
    dataset: Path, corpus: Corpus, *, data: DataConfig, seed: int
) -> tuple[beir.Qrels, int]:
    """The queries to mine for, and how many have no relevant passage and are left out."""
    read = beir.read_qrels(dataset, "train")
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
    if not qrels:
        raise DataError(f"{dataset}: no training query has a relevant passage")
    without = len(read) - len(qrels)
    if data.max_train_queries is None or data.max_train_queries >= len(qrels):
        return qrels, without
    chosen = sorted(qrels, key=lambda query: _draw(f"{seed}:{query}:sample"))
    kept = set(chosen[: data.max_train_queries])
    return {query: judged for query, judged in qrels.items() if query in kept}, without


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def read_rows(file: Path) -> Iterator[MinedRow]:
    """The mined rows, in the order of the training judgements."""
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield MinedRow(row["query"], row["positive"], tuple(row["hard"]), tuple(row["random"]))


def look_up(folder: Path, dataset: Path, query: str) -> list[dict[str, Any]]:
    """A mined query, its positive and its negatives: kind, id, text, and each passage's BM25 score.

    Raises:
        DataError: the query was not mined.
    """
    corpus = Corpus.open(dataset)
    with (folder / MINING_DETAILS).open(encoding="utf-8") as details:
        for row, line in zip(read_rows(folder / NEGATIVES), details, strict=True):
            if row.query != query:
                continue
            facts = json.loads(line)
            kinds = [("positive", [row.positive], [facts["positive"]])]
            kinds += [("hard", list(row.hard), facts["hard"])]
            kinds += [("random", list(row.random), facts["random"])]
            text = beir.read_queries(dataset)[query]
            return [{"kind": "query", "id": query, "text": text}] + [
                {"kind": kind, "id": name, "score": score, "text": corpus.texts_by_id([name])[0]}
                for kind, names, scores in kinds
                for name, score in zip(names, scores, strict=True)
            ]
    raise DataError(
        f"no training query '{query}' was mined",
        hint=shlex.join(["head", "-n", "3", str(folder / NEGATIVES)]),
    )
