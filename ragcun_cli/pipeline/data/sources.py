"""Which data sets there are, and where each comes from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from ragcun_cli.spec.errors import DataError, did_you_mean
from ragcun_cli.spec.measuring_config import MTEB_NAME

NOT_DECLARED = "not declared"
"""Said of a licence that nobody states."""

_REGISTRY_NAME = "ragcun's registry, after mteb"

TEST_LIMIT = 500
"""Pairs in a pydocs test set; enough for the quickstart and quick to encode."""


@dataclass(frozen=True)
class Docstrings:
    """A data set made of the docstrings of installed libraries."""

    libraries: tuple[str, ...]
    """Import names."""

    description: str
    limit: int | None = None
    """Pairs of each library, chosen by the digest of their ids; none means all."""

    dev_queries: int | None = None
    """Queries held back for development; None makes a test set of all pairs."""


@dataclass(frozen=True)
class PublishedSet:
    """A data set that others publish, with its size there; its row in `registry.toml`."""

    description: str
    passages: int
    queries: int
    """Judged queries of the split that is reported."""

    words: int | None = None
    """Of a passage, in the mean."""

    split: str = "test"
    """The split a results table shows: MS MARCO's test judgements are not public."""

    relevant_pairs: int | None = None
    """Judgements of that split with a grade above 0."""

    relevant_per_query: float | None = None
    """Rounded to a tenth, where no more is published."""

    train_queries: int | None = None
    """Judged queries of its train split, where there is one to train on."""

    licence: str = NOT_DECLARED
    zip_bytes: int = 0
    """0 where there is none."""

    zip_md5: str | None = None
    passages_sha256: str | None = None
    """Of its passages as ragcun stores them, where it was seen byte for byte."""

    hub: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Forum, or nothing -> data set on the Hub and the commit it was seen at."""

    forums: tuple[str, ...] = ()
    """Of a set of several sets, each with passages of its own."""

    like: str | None = None
    """A set with nearly the same passages, which are kept once."""

    obtain: str | None = None
    """How to come by a set that cannot be downloaded."""

    @property
    def gated(self) -> bool:
        """Needs a licence, and cannot be downloaded."""
        return self.obtain is not None


@dataclass(frozen=True)
class Derived:
    """Some queries of MS MARCO with judgements, searched in its passages."""

    description: str
    queries: int
    judgements: int | None = None
    """Of any grade."""

    of: str = "msmarco"
    """The set whose passages it is searched in."""

    split: str = "test"
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What it needs beside MS MARCO itself: name -> url, size and md5."""


@dataclass(frozen=True)
class MtebSet:
    """A retrieval task of mteb, which alone knows whether there is one of that name."""

    task: str
    subset: str | None = None
    """Of a task of several; often a language."""

    split: str = "test"
    """Where its reported split is kept, whatever mteb calls it."""

    queries: int | None = None

    @property
    def name(self) -> str:
        """What a profile calls it."""
        return f"mteb:{self.task}" + ("" if self.subset is None else f"/{self.subset}")

    @property
    def description(self) -> str:
        """For people."""
        return f"task {self.name.partition(':')[2]} of mteb"


TRAIN_LIBRARIES = ("torch", "transformers")
TEST_LIBRARIES = ("numpy", "scipy", "pandas", "sklearn", "sympy", "networkx")

PYDOCS = {
    "pydocs": Docstrings(
        TRAIN_LIBRARIES, "docstrings of torch and transformers, to train on", dev_queries=300
    ),
    **{
        f"pydocs-{library}": Docstrings(
            (library,), f"docstrings of {library}, held out", limit=TEST_LIMIT
        )
        for library in TEST_LIBRARIES
    },
    "smoke": Docstrings(
        ("networkx",), "160 docstrings of networkx, for tests", limit=160, dev_queries=32
    ),
    "smoke-numpy": Docstrings(("numpy",), "80 docstrings of numpy, for tests", limit=80),
    "smoke-sklearn": Docstrings(("sklearn",), "80 docstrings of sklearn, for tests", limit=80),
}


def _published(values: dict[str, Any]) -> PublishedSet:
    forums = values.pop("forums", {})
    hub = {"": (values.pop("mirror"), values.pop("revision"))} if "mirror" in values else {}
    hub |= {forum: (entry["mirror"], entry["revision"]) for forum, entry in forums.items() if entry}
    return PublishedSet(**values, hub=hub, forums=tuple(forums))


_REGISTRY = tomllib.loads(files(__package__).joinpath("registry.toml").read_text(encoding="utf-8"))

HOST: str = _REGISTRY["host"]
"""Where BEIR's zips lie, with {name} for the set's."""

BEIR = {name: _published(values) for name, values in _REGISTRY["sets"].items()}

DERIVED = {name: Derived(**values) for name, values in _REGISTRY["derived"].items()}
"""Sets made of MS MARCO; none of BEIR's averages has them."""

OUTSIDE_AVERAGES = {"msmarco", *DERIVED}
"""BEIR's average is of sets that are zero-shot for an encoder trained on MS MARCO."""

GATED = frozenset(name for name, source in BEIR.items() if source.gated)

GROUPS = {
    "beir": [name for name in BEIR if name != "msmarco"],
    "public": [name for name in BEIR if name not in GATED],
}
"""Words that stand for several sets, in every command: BEIR's 18 test sets; those of them that can
be downloaded, and MS MARCO."""


Source = Docstrings | PublishedSet | Derived | MtebSet


def find(name: str) -> Source | None:
    """What is known of a set; nothing of one that a person imported."""
    return PYDOCS.get(name) or BEIR.get(name) or DERIVED.get(name) or find_mteb(name)


def licence_of(name: str, recorded: Mapping[str, Any]) -> tuple[str, str]:
    """The licence of a set as declared, and where that is stated.

    Args:
        name: of the set.
        recorded: what the record of it remembers; nothing of a set that is not here.
    """
    by_import = "mteb" if "mteb" in recorded else "the import of who brought it"
    if "licence" in recorded:
        return recorded["licence"], by_import
    known = find(recorded.get("sample", {}).get("of", recorded.get("from", name)))
    known = BEIR.get(known.of) if isinstance(known, Derived) else known
    if isinstance(known, Docstrings):
        return "that of each library", "the libraries themselves"
    if not isinstance(known, PublishedSet):
        return NOT_DECLARED, f"not in {by_import}"
    return known.licence, f"{'not in ' * (known.licence == NOT_DECLARED)}{_REGISTRY_NAME}"


def find_mteb(name: str) -> MtebSet | None:
    """The task and subset that ``mteb:TASK`` or ``mteb:TASK/SUBSET`` names; None of other names."""
    if re.match(MTEB_NAME, name) is None:
        return None
    task, _, subset = name.partition(":")[2].partition("/")
    return MtebSet(task, subset or None)


def reported_split(name: str) -> str:
    """The split a results table shows; `test` of sets that are not published."""
    known = find(name)
    return "test" if known is None or isinstance(known, Docstrings) else known.split


def is_made_here(name: str) -> bool:
    """Whether ragcun makes or downloads a set by itself."""
    known = find(name)
    return known is not None and not (isinstance(known, PublishedSet) and known.gated)


def absent_error(names: Sequence[str], here: Iterable[str] = ()) -> DataError:
    """What to do about data sets that are not here and cannot be brought; others may be ``here``.

    The first is held against all that are known, as it may be mistyped.
    """
    listed = ", ".join(f"'{name}'" for name in names)
    known = BEIR.get(names[0])
    needs = f"; '{names[0]}' needs {known.obtain}" if known is not None and known.gated else ""
    near = []
    bring = f"ragcun data import FOLDER_OR_FILE --name {names[0]}"
    if find(names[0]) is None:
        near = get_close_matches(names[0], {*PYDOCS, *BEIR, *DERIVED, *here}, n=1)
        bring = f"ragcun data list, or {bring}" if near else bring
    if names[0].startswith("mteb-"):
        bring = "ragcun data get mteb:TASK"
    if is_made_here(names[0]):
        bring = f"ragcun data get {names[0]}"
    said = f"no data set {listed} in this workspace{needs}{did_you_mean(near)}"
    return DataError(said, hint=bring)
