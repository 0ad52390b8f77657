"""Mine the negatives of a training set: one row for each query, the same for every experiment."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ragcun_cli.core.negatives import Negatives, choose_negatives
from ragcun_cli.pipeline.data import beir
from ragcun_cli.pipeline.data.corpus import Corpus
from ragcun_cli.pipeline.lexical import LexicalIndex
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import MINING_SUMMARY, NEGATIVES
from ragcun_cli.spec.profile import DataConfig, MiningConfig


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
    progress: Progress,
) -> dict[str, int]:
    """Write one row for each training query, and return the counts of the closing table.

    Raises:
        DataError: the data set has no train judgements, or its corpus is too small.
    """
    corpus = Corpus.open(dataset)
    qrels = _training_qrels(dataset, corpus, data=data, seed=seed)
    queries = beir.read_queries(dataset)
    hits = LexicalIndex(corpus, mining).search(
        {query: queries[query] for query in qrels},
        # Positives and passages with their text are dropped from the hits, so look a little deeper.
        depth=mining.depth + max(len(judged) for judged in qrels.values()),
        progress=progress,
    )
    same_text = _same_text(corpus)
    rows = []
    for query, judged in qrels.items():
        positives = sorted(passage for passage, grade in judged.items() if grade > 0)
        excluded = {twin for passage in positives for twin in same_text[passage]} | set(positives)
        candidates = [name for name, _ in hits[query] if name not in excluded][: mining.depth]
        given = sorted(passage for passage, grade in judged.items() if grade <= 0)
        chosen = _choose(query, candidates, given, excluded, corpus.ids, mining=mining, seed=seed)
        positive = positives[_draw(f"{seed}:{query}:positive") % len(positives)]
        rows.append(MinedRow(query, positive, chosen.hard, chosen.random))
    _write_rows(draft / NEGATIVES, rows)
    summary = _summary(rows, mining, passages=len(corpus))
    (draft / MINING_SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _choose(
    query: str,
    candidates: Sequence[str],
    given: Sequence[str],
    excluded: set[str],
    pool: Sequence[str],
    *,
    mining: MiningConfig,
    seed: int,
) -> Negatives:
    try:
        return choose_negatives(
            candidates,
            first=given,
            excluded=excluded,
            pool=pool,
            count=mining.negatives_per_query,
            hard_share=mining.hard_share,
            skip_top=mining.skip_top,
            seed=seed,
            query_id=query,
        )
    except ValueError as error:
        raise DataError(str(error)) from error


def _training_qrels(dataset: Path, corpus: Corpus, *, data: DataConfig, seed: int) -> beir.Qrels:
    read = beir.read_qrels(dataset, "train")
    unknown = set(beir.unknown_passages(read, corpus))
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
    if data.max_train_queries is None or data.max_train_queries >= len(qrels):
        return qrels
    chosen = sorted(qrels, key=lambda query: _draw(f"{seed}:{query}:sample"))
    kept = set(chosen[: data.max_train_queries])
    return {query: judged for query, judged in qrels.items() if query in kept}


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _same_text(corpus: Corpus) -> dict[str, set[str]]:
    """Passage id -> ids of the passages with the same words, itself among them."""
    groups: defaultdict[str, set[str]] = defaultdict(set)
    keys = [beir.words(text) for text in corpus.texts]
    for identifier, key in zip(corpus.ids, keys, strict=True):
        groups[key].add(identifier)
    return {name: groups[key] for name, key in zip(corpus.ids, keys, strict=True)}


def _summary(rows: Sequence[MinedRow], mining: MiningConfig, *, passages: int) -> dict[str, int]:
    wanted = mining.negatives_per_query
    hard = sum(len(row.hard) for row in rows)
    fewest = int(wanted * mining.hard_share)
    return {
        "passages": passages,
        "queries": len(rows),
        "hard_negatives": hard,
        "random_negatives": len(rows) * wanted - hard,
        "queries_short_of_hard_negatives": sum(len(row.hard) < fewest for row in rows),
    }


def _write_rows(file: Path, rows: Sequence[MinedRow]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def read_rows(file: Path) -> Iterator[MinedRow]:
    """The mined rows, in the order of the training judgements."""
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield MinedRow(row["query"], row["positive"], tuple(row["hard"]), tuple(row["random"]))
