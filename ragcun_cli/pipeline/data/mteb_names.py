"""What mteb calls the data sets that we know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ragcun_cli.pipeline.data import sources

TASKS = {
    "msmarco": "MSMARCO",
    "trec-covid": "TRECCOVID",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "hotpotqa": "HotpotQA",
    "fiqa": "FiQA2018",
    "arguana": "ArguAna",
    "webis-touche2020": "Touche2020",
    "cqadupstack": "CQADupstackRetrieval",
    "quora": "QuoraRetrieval",
    "dbpedia-entity": "DBPedia",
    "scidocs": "SCIDOCS",
    "fever": "FEVER",
    "climate-fever": "ClimateFEVER",
    "scifact": "SciFact",
}
"""Name of a public set -> mteb's."""


@dataclass(frozen=True)
class MtebTask:
    """A task as mteb knows it."""

    name: str
    revision: str
    """Commit of the data set that mteb evaluates on; `1` of tasks that are means of others."""
    split: str = "test"
    """mteb's name of the split that is scored."""
    subset: str = "default"
    languages: tuple[str, ...] = ("eng-Latn",)
    main_score: str = "ndcg_at_10"
    """The metric that mteb compares models by."""


def task_of(dataset: str) -> MtebTask | None:
    """What mteb calls one of BEIR's sets, or a forum of CQADupStack; None where it has none.

    The revision is that of mteb's copy. It says which data a score is of, and not that they came
    from there: the registry holds BEIR's own files against the counts of that copy.

    Args:
        dataset: such as ``scifact`` or ``cqadupstack/android``.
    """
    name, _, part = dataset.partition("/")
    known = sources.BEIR.get(name)
    if name not in TASKS or known is None or (part and part not in known.forums):
        return None
    if part:
        return MtebTask(f"CQADupstack{part.title()}Retrieval", known.hub[part][1], known.split)
    return MtebTask(TASKS[name], known.hub[""][1] if "" in known.hub else "1", known.split)


def recorded_task(details: Mapping[str, Any]) -> MtebTask | None:
    """What the record of a data set says of the task that it is from; None of other sets."""
    known = details.get("mteb")
    return None if known is None else MtebTask(**known | {"languages": tuple(known["languages"])})
