"""Find a retrieval task of mteb and load its data, at the revision that mteb pins."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.bring.hub import out_of_reach
from ragcun_cli.pipeline.data.bring.mteb_rows import MtebData, store_mteb
from ragcun_cli.pipeline.data.mteb_names import TASKS, MtebTask
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.stages.task import Action, Details
from ragcun_cli.spec.errors import DataError, extra_hint, first_line


def task_action(name: str) -> Action:
    """What brings ``mteb:TASK`` or ``mteb:TASK/SUBSET`` into a draft folder."""

    def action(draft: Path, progress: Progress) -> Details:
        found = load_task(name)
        return {
            "about": f"task {name.partition(':')[2]} of mteb",
            "from": name,
            "origin": found.origin,
            "verified": "revision",
            "mteb": asdict(found.task) | {"languages": list(found.task.languages)},
            **({"licence": found.licence} if found.licence else {}),
            **store_mteb(found, draft, progress=progress).details(),
        }

    return action


def load_task(name: str) -> MtebData:
    """The data of a task, by mteb's own loader, which caches what it downloads as `datasets` does.

    Kept is the split that is reported: ``test`` where mteb reports it, among others or not, or the
    only one; of MSMARCO it is ``dev``, as everywhere in ragcun.

    Args:
        name: ``mteb:TASK``, or ``mteb:TASK/SUBSET`` where a task has several.

    Raises:
        DataError: mteb is not installed or has no such task, it is not about finding texts by
            texts, its subset or split is not clear, or its data cannot be had.
    """
    asked = sources.find_mteb(name)
    if asked is None:
        raise DataError(f"'{name}' does not name a task as mteb:TASK or mteb:TASK/SUBSET")
    if importlib.util.find_spec("mteb") is None:
        raise DataError(
            f"'{name}' is brought by mteb, which is not installed",
            hint=extra_hint("mteb"),
        )
    task = _find(asked)
    return read_task(task, subset=_subset(task, asked), split=_split(task, asked))


def _find(asked: sources.MtebSet) -> Any:  # noqa: ANN401  # mteb's classes are not imported here
    """The task, without data."""
    import mteb

    try:
        task = mteb.get_task(asked.task)
    except KeyError:
        tasks = mteb.get_tasks(task_types=["Retrieval"])
        known = {other.metadata.name.lower(): other.metadata.name for other in tasks}
        close = get_close_matches(asked.task.lower(), known, n=3)
        meant = " or ".join(known[name] for name in close)
        raise DataError(
            f"mteb {mteb.__version__} has no task '{asked.task}'"
            + (f"; did you mean {meant}?" if meant else ""),
            hint=f"ragcun data get mteb:{known[close[0]]}" if close else "mteb available-tasks",
        ) from None
    if task.is_aggregate:
        parts = " ".join(f"mteb:{part.metadata.name}" for part in task.metadata.tasks)
        raise DataError(
            f"'{asked.task}' has no data of its own: it is the mean of other tasks",
            hint=f"ragcun data get {parts}",
        )
    _refuse_other_kinds(task)
    return task


def _refuse_other_kinds(task: Any) -> None:  # noqa: ANN401
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    kind, modalities = task.metadata.type, list(task.metadata.modalities)
    if not isinstance(task, AbsTaskRetrieval) or kind != "Retrieval" or modalities != ["text"]:
        raise DataError(
            f"'{task.metadata.name}' is a task of {kind} of {', '.join(modalities)}; only "
            "Retrieval of text can be searched",
            hint="mteb available-tasks --task-types Retrieval",
        )


def _subset(task: Any, asked: sources.MtebSet) -> str:  # noqa: ANN401
    there = list(task.metadata.hf_subsets)
    if asked.subset is None and len(there) == 1:
        return str(there[0])
    if asked.subset in there:
        return str(asked.subset)
    close = get_close_matches(asked.subset or "", there, n=1)
    first = close[0] if close else there[0]
    listed = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    raise DataError(
        f"'{asked.task}' has "
        + ("several subsets" if asked.subset is None else f"no subset '{asked.subset}'")
        + f": {listed}",
        hint=f"ragcun data get mteb:{asked.task}"
        + (f"/{first}" if task.metadata.is_multilingual else ""),
    )


def _split(task: Any, asked: sources.MtebSet) -> str:  # noqa: ANN401
    there = list(task.metadata.eval_splits)
    public = [name for name, theirs in TASKS.items() if theirs == asked.task]
    wanted = sources.reported_split(public[0]) if public else "test"
    if wanted in there:
        return wanted
    if len(there) == 1:
        return str(there[0])
    raise DataError(
        f"mteb reports '{asked.task}' on {', '.join(there)}, and ragcun on one split; none of them "
        "is test",
        hint="ragcun data import FOLDER --name NAME, with one of them as qrels/test.tsv",
    )


def read_task(task: Any, *, subset: str, split: str) -> MtebData:  # noqa: ANN401
    """What a task object of mteb holds, or loads, for one subset and split.

    Raises:
        DataError: its data cannot be had, or are conversations, come with instructions or rank
            given passages only, which is not what exact search of a corpus does.
    """
    metadata = task.metadata
    found = _loaded(task, subset=subset, split=split)
    queries = found["queries"]
    first: Mapping[str, Any] = next(iter(queries), {})
    unlike = {
        "queries that are conversations": not isinstance(first.get("text", ""), str),
        "instructions beside its queries": "instruction" in first,
        "passages chosen for each query": bool(found.get("top_ranked")),
    }
    if reasons := [reason for reason, holds in unlike.items() if holds]:
        raise DataError(f"'{metadata.name}' has {' and '.join(reasons)}; this is not supported")
    return MtebData(
        task=MtebTask(
            name=metadata.name,
            revision=metadata.revision,
            split=split,
            subset=subset,
            languages=tuple(metadata.hf_subsets_to_langscripts[subset]),
            main_score=metadata.main_score,
        ),
        path=metadata.dataset["path"],
        corpus=found["corpus"],
        passages=len(found["corpus"]),
        queries=queries,
        qrels=found["relevant_docs"],
        namesakes_left_out=bool(task.ignore_identical_ids),
        licence=None if metadata.license == "not specified" else metadata.license,
    )


def _loaded(task: Any, *, subset: str, split: str) -> Mapping[str, Any]:  # noqa: ANN401
    """Corpus, queries and judgements, as mteb has them in memory."""
    task.filter_eval_splits([split])
    task.hf_subsets = [subset]
    path, revision = task.metadata.dataset["path"], task.metadata.revision
    # What `datasets`, the Hub's client and the loaders of single tasks make of a cut connection, a
    # missing file, a script that may not run, or an answer that is not the Hub's.
    expected = (OSError, RuntimeError, ValueError, LookupError, TypeError, ImportError)
    try:
        with out_of_reach(path, revision):
            task.load_data()
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    except expected as error:
        raise DataError(
            f"mteb could not load {path}@{revision}: {first_line(error)}",
            hint=f"hf download {path} --repo-type dataset --revision {revision}",
        ) from error
    splits = task.dataset.get(subset, task.dataset if subset == "default" else {})
    if split not in splits:
        raise DataError(f"mteb could not load {path}@{revision}: no '{split}' of '{subset}'")
    found: Mapping[str, Any] = splits[split]
    return found
