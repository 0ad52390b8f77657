"""Store the data of a task of mteb as a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data.mteb_names import MtebTask
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.beir import Qrels
from ragcun_cli.pipeline.data.sets.corpus import Passage
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes, id_of, text_of
from ragcun_cli.pipeline.data.sources import MtebSet
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError

Rows = Iterable[Mapping[str, Any]]

_QUERY_MARK = "query-"
_ROWS_A_STEP = 1_000


@dataclass(frozen=True)
class MtebData:
    """What a task of mteb consists of: one split, the one that is reported."""

    task: MtebTask
    path: str
    """Of the data set on the Hub."""

    corpus: Rows
    """With ``id``, ``text`` and perhaps ``title``."""

    passages: int
    queries: Rows
    """With ``id`` and ``text``; those without judgements are not kept."""

    qrels: Mapping[str, Mapping[str, Any]]
    namesakes_left_out: bool
    """Whether a passage with the query's own id is no result, as in BEIR."""

    licence: str | None = None
    """As mteb states it."""

    @property
    def origin(self) -> str:
        """Where it is from."""
        return f"{self.path}@{self.task.revision}"


def store_mteb(found: MtebData, draft: Path, *, progress: Progress) -> storing.Counts:
    """Store a task's data as a data set, its split as ``test``, and return its size.

    Where mteb keeps passages that have a query's id among its results, query ids get ``query-`` in
    front, as ragcun leaves such passages out.

    Raises:
        DataError: an id or a judgement is malformed, or a judged query has no text.
    """
    notes, source = Notes(), Path(found.task.name)
    judged = {id_of(q, found.origin, source, notes): docs for q, docs in found.qrels.items()}
    mark = ""
    if not found.namesakes_left_out and _shares_ids(found.corpus, judged):
        mark = _QUERY_MARK
        notes.add(source, f"query ids got {mark!r} in front, as passages have them too", once=True)
    write_corpus(_passages(found, notes, progress), draft, source=source, notes=notes)
    texts = _queries(found, judged, notes)
    qrels: Qrels = {
        mark + query: _grades(judged[query], query, found.origin, notes) for query in sorted(judged)
    }
    beir.write_judged(
        draft,
        queries={mark + query: texts[query] for query in sorted(texts)},
        splits={MtebSet.split: {query: grades for query, grades in qrels.items() if grades}},
    )
    return storing.check(draft, published=True, notes=notes)


def _shares_ids(corpus: Rows, queries: Mapping[str, Any]) -> bool:
    return any(str(row["id"]) in queries for row in corpus)


def _passages(found: MtebData, notes: Notes, progress: Progress) -> Iterator[Passage]:
    source = Path(found.task.name)
    with progress.bar(f"store {found.task.name}", total=found.passages, unit="passages") as step:
        for number, row in enumerate(found.corpus, 1):
            name = id_of(row["id"], f"{found.origin}, passage {number}", source, notes)
            title, text = (text_of(row.get(key) or "", source, notes) for key in ("title", "text"))
            yield Passage(name, title, text, number)
            if number % _ROWS_A_STEP == 0:
                step(_ROWS_A_STEP)
        step(found.passages % _ROWS_A_STEP)


def _queries(found: MtebData, judged: Mapping[str, Any], notes: Notes) -> dict[str, str]:
    source = Path(found.task.name)
    texts: dict[str, str] = {}
    for number, row in enumerate(found.queries, 1):
        where = f"{found.origin}, query {number}"
        name = id_of(row["id"], where, source, notes)
        text = text_of(row["text"], source, notes)
        if texts.setdefault(name, text) != text:
            raise DataError(f"{where}: id '{name}' stands twice, with other words")
    return {name: text for name, text in texts.items() if name in judged}


def _grades(documents: Mapping[str, Any], query: str, origin: str, notes: Notes) -> dict[str, int]:
    grades: dict[str, int] = {}
    for document, grade in documents.items():
        if float(grade) != int(grade):
            raise DataError(f"{origin}: query '{query}' has the grade {grade}, which is not whole")
        grades[id_of(document, f"{origin}, judgements", Path(origin), notes)] = int(grade)
    return dict(sorted(grades.items()))
