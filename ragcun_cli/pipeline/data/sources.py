"""Which data sets there are, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

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
    """A data set that others publish, with its size there."""

    description: str
    passages: int
    queries: int
    """Judged queries of the split that is reported: dev.small for MS MARCO, else test."""

    train_queries: int | None = None
    """Judged queries of its train split, where there is one to train on."""

    gated: bool = False
    """Needs a licence, and cannot be downloaded."""


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

# Passages and queries as BEIR's README gives them.
BEIR = {
    "msmarco": Published("web passages, Bing queries", 8_841_823, 6_980, 502_939),
    "trec-covid": Published("COVID-19 articles", 171_332, 50),
    "nfcorpus": Published("nutrition and medicine", 3_633, 323),
    "bioasq": Published("biomedical articles", 14_914_602, 500, gated=True),
    "nq": Published("Wikipedia, Google queries", 2_681_468, 3_452),
    "hotpotqa": Published("Wikipedia, multi-hop questions", 5_233_329, 7_405),
    "fiqa": Published("finance questions", 57_638, 648),
    "signal1m": Published("tweets about news", 2_866_316, 97, gated=True),
    "trec-news": Published("Washington Post articles", 594_977, 57, gated=True),
    "robust04": Published("news articles", 528_155, 249, gated=True),
    "arguana": Published("counter-arguments", 8_674, 1_406),
    "webis-touche2020": Published("arguments (v2)", 382_545, 49),
    "cqadupstack": Published("duplicate questions of 12 forums", 457_199, 13_145),
    "quora": Published("duplicate questions", 522_931, 10_000),
    "dbpedia-entity": Published("Wikipedia entities", 4_635_922, 400),
    "scidocs": Published("citations of articles", 25_657, 1_000),
    "fever": Published("Wikipedia, claims to check", 5_416_568, 6_666),
    "climate-fever": Published("Wikipedia, claims on climate", 5_416_593, 1_535),
    "scifact": Published("scientific claims", 5_183, 300),
}

GATED = frozenset(name for name, source in BEIR.items() if source.gated)


def reported_split(name: str) -> str:
    """The split a results table shows: MS MARCO's test judgements are not public."""
    return "dev" if name == "msmarco" else "test"
