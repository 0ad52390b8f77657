"""Queries for passages, made of the passages' own words or read from a file, and what guards them.

Nothing that is left out goes uncounted. Of what remains no two queries, and no two passages, are
nearly the same by the rule of `data stats`, so that however documents are divided among training,
dev and test, none is asked in one what was learnt in another.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragcun_cli.core.draw import PROXY_PAIRS, smallest
from ragcun_cli.core.jaccard import first_of_alike
from ragcun_cli.core.words import word_spans, words
from ragcun_cli.pipeline.data.checks.overlap import NEAR
from ragcun_cli.pipeline.data.proxy.documents import Document, cut_document, first_sentence
from ragcun_cli.pipeline.data.proxy.markup import TextSection
from ragcun_cli.pipeline.data.proxy.settings import PairSettings, Tally
from ragcun_cli.pipeline.data.sets.corpus import Passage
from ragcun_cli.pipeline.data.sets.lines import Notes, read_objects, text_of
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.errors import DataError

LEAST_QUERY, MOST_QUERY, LEAST_BODY = 2, 64, 5
"""Words of a query, at least and at most, and of what is left of a passage without it, at least."""

ALIKE = "with nearly the words of an earlier one"


@dataclass
class ProxyPair:
    """A query and the passages it asks for."""

    query: str
    bodies: dict[str, str]
    """Passage id -> its text once the query is out."""

    give_aways: int = 0
    """Copies of the query that were taken out."""


@dataclass
class PairMaker:
    """Passages, and pairs on them."""

    settings: PairSettings
    passages: dict[str, Passage] = field(default_factory=dict)
    asked: list[ProxyPair] = field(default_factory=list)
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Of ``files`` or ``rows``, ``passages`` and ``pairs``."""

    def _leave(self, why: str, pair: ProxyPair) -> None:
        self.tallies["pairs"].leave(why, pair.query)

    def add(self, document: Document) -> None:
        """Cut a document, and ask for its passages what they are to be asked."""
        kind, pieces = self.settings.kind, [*cut_document(document, self.settings.passage_words)]
        for section, texts in pieces:
            path = {"title": _below(document.title, section.path), "heading": ()}.get(
                kind, section.path
            )
            found = {name: Passage(name, ": ".join(path), text) for name, text in texts.items()}
            self.passages |= found
            self.tallies["passages"].seen += len(found)
        if self.settings.pairs is not None:
            for pair, also in _questions(kind, document, pieces):
                self.tallies["pairs"].seen += 1
                self._consider(pair, also)

    def _consider(self, pair: ProxyPair, also: str) -> None:
        """Keep a pair if it is long enough once the query, and a part of it, are out."""
        if not pair.query:
            pair.query = next(iter(pair.bodies))
            self._leave(f"without a {self.settings.pairs or 'query'}", pair)
        elif not LEAST_QUERY <= len(word_spans(pair.query)) <= MOST_QUERY:
            self._leave(f"whose query is not of {LEAST_QUERY} to {MOST_QUERY} words", pair)
        elif any(_verbatim(pair.query).search(self._beside(name)) for name in pair.bodies):
            self._leave("whose query stands in its passage word for word", pair)
        else:
            phrases = [text for text in (pair.query, also) if len(word_spans(text)) >= LEAST_QUERY]
            for name, body in pair.bodies.items():
                for phrase in phrases:
                    body, copies = _verbatim(phrase).subn(" ", body)
                    pair.give_aways += copies
                pair.bodies[name] = body.strip()
            bodies = pair.bodies.items()
            pair.bodies = {n: text for n, text in bodies if len(word_spans(text)) >= LEAST_BODY}
            if pair.bodies:
                self.asked.append(pair)
            else:
                self._leave(f"whose passage has fewer than {LEAST_BODY} words without it", pair)

    def _beside(self, name: str) -> str:
        """What of a passage is not cut: of one that others wrote queries for, all."""
        passage = self.passages[name]
        return passage.content if self.settings.pairs is None else passage.title

    def read(self, file: Path, notes: Notes) -> None:
        """Take queries for passages from a file.

        Raises:
            DataError: a line is malformed, or no row names a passage.
        """
        tally, nowhere = self.tallies["pairs"], "that name no passage"
        for number, row in read_objects(file, notes):
            query, name = row.get("query"), row.get("passage_id")
            if not isinstance(query, str) or not isinstance(name, str | int):
                raise DataError(
                    f'{file}:{number}: "query" and "passage_id" have to be texts',
                    hint='a line such as {"query": "a question", "passage_id": "guide.md#3"}',
                )
            tally.seen += 1
            query, passage = text_of(query, file, notes, number), self.passages.get(str(name))
            pair = ProxyPair(" ".join(query.split()), {})
            if passage is None:
                self._leave(nowhere, pair)
            else:
                pair.bodies[passage.id] = passage.text
                self._consider(pair, "")
        if tally.left[nowhere] == tally.seen:
            known = ", ".join(f"'{name}'" for name in [*self.passages][:3])
            raise DataError(
                f"none of {tally.seen:,} rows of {file} names a passage; these are named {known}",
                hint='a line such as {"query": "a question", "passage_id": '
                f'"{next(iter(self.passages))}"}}',
            )

    def guard(self, progress: Progress) -> None:
        """Leave out what is ambiguous or nearly the same, and more pairs than are wanted."""
        self._leave_out_copies(progress)
        meant: dict[str, set[str]] = defaultdict(set)
        for pair in self.asked:
            meant[words(pair.query)].update(pair.bodies)
        alone = (len(meant[words(pair.query)]) == len(pair.bodies) for pair in self.asked)
        self.sift(alone, "whose query fits several passages")
        queries = [words(pair.query) for pair in self.asked]
        self.sift(_distinct(queries, "compare queries", progress), f"whose query is one {ALIKE}")
        most, asked = self.settings.max_pairs, [pair.query for pair in self.asked]
        drawn = {*smallest(PROXY_PAIRS, asked, len(asked) if most is None else most)}
        self.sift((query in drawn for query in asked), "more than --max-pairs")
        for pair in self.asked:
            for name, body in pair.bodies.items():
                self.passages[name] = self.passages[name]._replace(text=body)
        self.tallies["passages"].used = len(self.passages)

    def sift(self, stays: Iterable[bool], why: str) -> None:
        """Leave out the pairs that do not stay."""
        kept = []
        for pair, stay in zip(self.asked, stays, strict=True):
            if stay:
                kept.append(pair)
            else:
                self._leave(why, pair)
        self.asked = kept

    def _leave_out_copies(self, progress: Progress) -> None:
        """Leave out passages with the words of an earlier one, or nearly, once queries are out."""
        bodies = {name: body for pair in self.asked for name, body in pair.bodies.items()}
        passages = [self.passages[name] for name in sorted(self.passages)]
        asked = [one._replace(text=bodies.get(one.id, one.text)) for one in passages]
        texts, known = [words(one.content) for one in asked], set[str]()
        for one, text, stays in zip(
            passages, texts, _distinct(texts, "compare passages", progress), strict=True
        ):
            if not stays:
                why = "with the words of an earlier one" if text in known else ALIKE
                self.tallies["passages"].leave(why, one.id)
                del self.passages[one.id]
            known.add(text)
        for pair in self.asked:
            there = [name for name in pair.bodies if name in self.passages]
            pair.bodies = {name: pair.bodies[name] for name in there}
        self.sift((bool(pair.bodies) for pair in self.asked), "whose passage was left out")


def _questions(
    kind: str, document: Document, pieces: Sequence[tuple[TextSection, Mapping[str, str]]]
) -> Iterator[tuple[ProxyPair, str]]:
    """Pairs, each with a phrase that gives its query away as well."""
    if kind == "title":
        yield ProxyPair(document.title, dict(pieces[0][1])), ""
    for section, texts in pieces if kind == "heading" else ():
        yield ProxyPair(": ".join(section.path), dict(texts)), "".join(section.path[-1:])
    for _, texts in pieces if kind == "first-sentence" else ():
        for name, text in texts.items():
            query, rest = first_sentence(text)
            yield ProxyPair(query, {name: rest}), ""


def _below(title: str, path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without the title of its document."""
    return path[1:] if path[:1] == (title,) else path


def _verbatim(phrase: str) -> re.Pattern[str]:
    """Finds a phrase as whole words, whatever white space, case and stop at its end it has."""
    inside = r"\s+".join(map(re.escape, (phrase.rstrip(".!?…。।") or phrase).split()))
    return re.compile(rf"(?<!\w){inside}(?!\w)", re.IGNORECASE)


def _distinct(texts: Sequence[str], label: str, progress: Progress) -> Iterable[bool]:
    """Whether each text stays, as it is not nearly one before it."""
    with progress.bar(label, total=len(texts), unit="texts") as step:
        for stays in first_of_alike(texts, near=NEAR):
            yield stays
            step(1)
