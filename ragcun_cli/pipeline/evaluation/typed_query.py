"""What models find for a query that somebody typed."""

from __future__ import annotations

from pathlib import Path

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.encoders.kept import open_cache
from ragcun_cli.pipeline.evaluation.query_scale import query_scale_of
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.search.dense import PLAIN, Search, named_hits
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.lexical.rank import rank_lexical
from ragcun_cli.pipeline.search.rankings import Ranking, fused, ranking_of
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import dataset_folder

QUERY = "\0"
"""Stands for the typed query; no passage has this id."""


def typed_set(name: str, folder: Path, query: str, progress: Progress) -> JudgedSet:
    """The passages of a data set, of several parts those of the first, and the typed query.

    What is judged for a query of the set with the same words, in any split, is judged for it, too;
    of several such queries the highest grade counts.
    """
    parts = beir.parts(folder)
    own, name = parts[0], dataset_folder(name)
    if own != folder:
        name = f"{name}/{own.name}"
        progress.note(f"'{folder.name}' has {len(parts)} parts; this is the first, {own.name}")
    asked = beir.read_queries(own)
    same = {known for known, text in asked.items() if text.split() == query.split()}
    grades: dict[str, int] = {}
    for qrels in beir.read_splits(own).values() if same else ():
        for known in sorted(same & qrels.keys()):
            for passage, grade in qrels[known].items():
                grades[passage] = max(grade, grades.get(passage, grade))
    return JudgedSet(name, Corpus.open(own), {QUERY: query}, {QUERY: grades}, own)


def rank_typed(place: Place, run: Run, test: JudgedSet, progress: Progress) -> Ranking:
    """The typed query -> ids and scores of the passages that one model finds for it, best first.

    Embeddings of passages are kept in the workspace, so that the next query is quick.
    """
    config = run.profile.evaluation.model_copy(update={"variants": ()})
    if run.parts:
        both = [rank_typed(place, part, test, progress) for part in run.parts]
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
