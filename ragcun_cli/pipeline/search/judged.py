"""The judged queries of a data set and the passages they are searched in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.pipeline.data.sources import reported_split
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import dataset_folder


@dataclass(frozen=True)
class JudgedSet:
    """The judged queries of one split, and the passages they are searched in."""

    name: str
    corpus: Corpus
    queries: Mapping[str, str]
    qrels: beir.Qrels
    folder: Path | None = None
    """Where it is stored."""

    @property
    def part(self) -> str:
        """Which part of its data set it is; nothing where it is the whole."""
        return self.name.partition("/")[2]

    @property
    def corpus_digest(self) -> str:
        """Of the passages' ids and texts.

        Raises:
            ValueError: it is not a stored set.
        """
        if self.folder is None:
            raise ValueError(f"test set {self.name!r} is not stored")
        return read_record(self.folder).sha256

    @property
    def file_stem(self) -> str:
        """For files that each part has one of."""
        return self.part or self.name


def read_judged_set(
    name: str, folder: Path, *, split: str | None = None, texts_are_here: bool = True
) -> JudgedSet:
    """The split that results tables show, or another.

    Without texts it can be scored on, and not searched: it has so many passages, and no queries.

    Raises:
        DataError: a file is malformed, or a judged query has no text.
    """
    qrels = beir.read_qrels(folder, split or reported_split(name))
    if not texts_are_here:
        passages = cast(Corpus, range(read_record(folder).passages))
        return JudgedSet(name, passages, {}, qrels, folder)
    texts = beir.read_queries(folder)
    missing = [query for query in qrels if query not in texts]
    if missing:
        raise DataError(f"{folder}: judged queries without text: {', '.join(missing[:5])}")
    asked = {query: texts[query] for query in qrels}
    return JudgedSet(name, Corpus.open(folder), asked, qrels, folder)


def read_judged_sets(name: str, folder: Path, *, texts_are_here: bool = True) -> list[JudgedSet]:
    """The sets that a data set consists of, each searched by itself: one, but CQADupStack's 12.

    Raises:
        DataError: as `read_judged_set`.
    """
    parts = beir.parts(folder)
    own, split = dataset_folder(name), reported_split(name)
    names = [own] if parts == [folder] else [f"{own}/{part.name}" for part in parts]
    how: Any = {"split": split, "texts_are_here": texts_are_here}
    return [read_judged_set(*pair, **how) for pair in zip(names, parts, strict=True)]
