"""Which data sets a model's training saw, so that scores on them are not zero-shot."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from importlib.resources import files

from ragcun_cli.pipeline.data.mteb_names import TASKS
from ragcun_cli.pipeline.data.sources import DERIVED
from ragcun_cli.pipeline.stages.runs import Run

_KNOWN = tomllib.loads(files(__package__).joinpath("trained_on.toml").read_text(encoding="utf-8"))

SOURCE = f"the metadata of mteb {_KNOWN['mteb']}"
"""Of what the trainings of published models saw."""


def trained_on(model_name: str) -> frozenset[str] | None:
    """The data sets, in ragcun's names, of which a published model's training saw some part.

    Those made of such a set are among them: its variants and translations, TREC DL of MS MARCO.
    Empty of a model that was trained on none, None of one of which that is not known. Blind to
    what mteb's list leaves out.

    Args:
        model_name: its full name, as in a profile or among the published scores.
    """
    tasks = _KNOWN["models"].get(model_name)
    return None if tasks is None else _in_our_names(tasks)


def trained_here(run: Run) -> frozenset[str]:
    """The data sets that a run's own training saw; empty of a reference."""
    train = run.profile.data.train
    if run.reference is not None:
        return frozenset()
    return _in_our_names([TASKS[train]] if train in TASKS else []) | {train}


def seen_by(run: Run) -> frozenset[str] | None:
    """The data sets that the training of a run or of its base saw; None: its base's is unknown."""
    if run.reference == "bm25":
        return frozenset()
    of_base = trained_on(run.profile.encoder.base)
    return None if of_base is None else of_base | trained_here(run)


def _in_our_names(tasks: Collection[str]) -> frozenset[str]:
    names = {name for name, task in TASKS.items() if task in tasks}
    derived = {name for name, source in DERIVED.items() if source.of in names}
    return frozenset({*names, *derived, *(f"mteb:{task}" for task in tasks)})
