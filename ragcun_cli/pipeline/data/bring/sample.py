"""A smaller set for quick experiments: some queries, what is judged for them, some distractors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragcun_cli.core.draw import SAMPLE_PASSAGES, SAMPLE_QUERIES, smallest
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes
from ragcun_cli.spec.errors import DataError


def draw_sample(
    name: str, folder: Path, draft: Path, *, queries: int, passages: int, seed: int
) -> dict[str, Any]:
    """Store a sample of a set, and return its counts.

    Of each split so many judged queries (all, where there are fewer) with all their judgements;
    all passages judged for them; and others, to make up the number of passages. Which ones depends
    on the seed and on ids alone. Scores on it are no scores on the set: with fewer passages to
    confuse, every encoder finds more.

    Raises:
        DataError: the set is one of several parts, has fewer passages, or more are judged.
    """
    if beir.parts(folder) != [folder]:
        raise DataError(
            f"'{name}' consists of {len(beir.parts(folder))} sets that are searched apart",
            hint=f"ragcun data export {name} FOLDER, and import one of them",
        )
    corpus = Corpus.open(folder)
    texts = beir.read_queries(folder)
    splits = {
        split: {
            query: qrels[query]
            for query in sorted(smallest(SAMPLE_QUERIES, qrels, queries, seed=seed))
        }
        for split, qrels in beir.read_splits(folder).items()
    }
    named = {passage for qrels in splits.values() for ids in qrels.values() for passage in ids}
    rows = corpus.rows_of(sorted(named))
    judged = set(corpus.ids_of(rows[rows >= 0]))
    if not len(judged) <= passages <= len(corpus):
        raise DataError(
            f"{len(judged):,} passages are judged for the queries, and '{name}' has "
            f"{len(corpus):,}: {passages:,} is not between them",
            hint=f"--passages {len(judged) if passages < len(judged) else len(corpus)}",
        )
    others = (passage for passage in corpus.ids if passage not in judged)
    drawn = smallest(SAMPLE_PASSAGES, others, passages - len(judged), seed=seed)
    kept = corpus.take(corpus.rows_of(sorted(judged.union(drawn))))
    write_corpus(iter(kept), draft, source=folder, notes=Notes())
    asked = {query: texts[query] for qrels in splits.values() for query in qrels}
    metadata = beir.read_query_metadata(folder)
    beir.write_judged(draft, queries=asked, splits=splits, metadata=metadata)
    values = {"of": name, "queries": queries, "passages": passages, "seed": seed}
    about = f"sample of {name}: scores are not comparable with it"
    counts = storing.check(draft, published=True)
    return {"sample": values, "about": about, **counts.details()}
