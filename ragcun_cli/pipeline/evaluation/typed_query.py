"""What one model finds for a query that somebody typed."""

from __future__ import annotations

from typing import NamedTuple

from ragcun_cli.pipeline.encoders.kept import open_cache
from ragcun_cli.pipeline.evaluation.query_scale import query_scale_of
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.search.dense import PLAIN, Search, named_hits
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_sets
from ragcun_cli.pipeline.search.lexical.rank import rank_lexical
from ragcun_cli.pipeline.search.rankings import Ranking, fused, ranking_of
from ragcun_cli.pipeline.stages.runs import Run

QUERY = "\0"
"""Stands for the typed query; no passage has this id."""


class FoundPassage(NamedTuple):
    """One hit, to look at."""

    passage: str
    score: float
    text: str


def look(
    place: Place, run: Run, dataset: str, query: str, count: int, progress: Progress
) -> list[FoundPassage]:
    """The best passages of a data set for a query, best first; of several parts, of the first.

    Embeddings of passages are kept in the workspace, so that the next query is quick.
    """
    whole = read_judged_sets(dataset, place.sets.task(dataset).folder)[0]
    test = JudgedSet(whole.name, whole.corpus, {QUERY: query}, {}, whole.folder)
    best = _ranked(place, run, test, progress)[QUERY][:count]
    texts = test.corpus.texts_by_id([passage for passage, _ in best])
    return [FoundPassage(*hit, text) for hit, text in zip(best, texts, strict=True)]


def _ranked(place: Place, run: Run, test: JudgedSet, progress: Progress) -> Ranking:
    config = run.profile.evaluation.model_copy(update={"variants": ()})
    if run.parts:
        both = [_ranked(place, part, test, progress) for part in run.parts]
        return fused(*both, depth=config.depth)
    if not run.embeds:
        mining, workspace = run.profile.mining, place.workspace
        return rank_lexical(test, config, mining, workspace=workspace, progress=progress)
    source = place.source(run)
    search = Search(
        place.load(run, progress),
        test,
        config,
        query_scale=query_scale_of(run)[0],
        cache=open_cache(source, test.corpus, test.corpus_digest, config, place.workspace),
        progress=progress,
    )
    hits = named_hits(search.run()[PLAIN], test.queries)
    return ranking_of(hits, test.corpus, depth=config.depth)
