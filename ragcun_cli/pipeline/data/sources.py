"""Which data sets there are, and where each comes from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files

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
class Published:
    """A data set that others publish, with its size there; its row in `registry.toml`."""

    description: str
    passages: int
    queries: int
    """Judged queries of the split that is reported."""

    split: str = "test"
    """The split a results table shows: MS MARCO's test judgements are not public."""

    relevant_pairs: int | None = None
    """Judgements of that split with a grade above 0."""

    train_queries: int | None = None
    """Judged queries of its train split, where there is one to train on."""

    train_pairs: int | None = None
    licence: str | None = None
    zip_bytes: int | None = None
    zip_md5: str | None = None
    mirror: str | None = None
    """Data set on the Hub, and the commit it was seen at."""

    revision: str | None = None
    forums: tuple[str, ...] = ()
    """Of a set of several sets, each with passages of its own."""

    obtain: str | None = None
    """How to come by a set that cannot be downloaded."""

    @property
    def downloadable(self) -> bool:
        """Whether `ragcun data get` brings it."""
        return self.zip_bytes is not None and not self.forums

    @property
    def gated(self) -> bool:
        """Needs a licence, and cannot be downloaded."""
        return self.obtain is not None


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

_REGISTRY = tomllib.loads(files(__package__).joinpath("registry.toml").read_text(encoding="utf-8"))

HOST: str = _REGISTRY["host"]
"""Where BEIR's zips lie, with {name} for the set's."""

BEIR = {
    name: Published(**values | {"forums": tuple(values.get("forums", ()))})
    for name, values in _REGISTRY["sets"].items()
}

GATED = frozenset(name for name, source in BEIR.items() if source.gated)


def reported_split(name: str) -> str:
    """The split a results table shows; `test` of sets that are not published."""
    return BEIR[name].split if name in BEIR else "test"


def group(name: str) -> list[str]:
    """The sets that a word stands for; none for a set's own name."""
    if name == "all":
        return list(BEIR)
    return [member for member in BEIR if member != "msmarco"] if name == "beir" else []
