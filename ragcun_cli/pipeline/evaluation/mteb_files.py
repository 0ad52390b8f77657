"""Results as mteb writes them, so that its own tools can read them beside those of other models."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data.mteb_names import MtebTask, recorded_task, task_of
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import write_atomically

_METRIC = re.compile(r"(ndcg|map|mrr|recall|precision|hit_rate)@([0-9]+)")
_DECIMALS = 6  # as mteb's own files


def is_known_to_mteb(dataset: str) -> bool:
    """Whether mteb has a task of a data set."""
    return task_of(dataset) is not None or dataset.startswith(("mteb:", "mteb-"))


def write_mteb(
    folder: Path,
    run: Run,
    dataset: str,
    content: Mapping[str, Any],
    *,
    data: Mapping[str, Any],
    weights: str,
) -> None:
    """Write ``<model>/<revision>/<task>.json`` of one evaluation, and of each part of its set.

    A task whose main score is not among our metrics has no file.

    Args:
        folder: to write into.
        run: that was evaluated.
        dataset: on which.
        content: of its `metrics.json`.
        data: what the record of the data set remembers.
        weights: digest of the model.
    """
    parts = content.get("parts", {}).items()
    tasks = [
        (task_of(dataset) or recorded_task(data), content["metrics"]),
        *((task_of(f"{dataset}/{part}"), metrics) for part, metrics in parts),
    ]
    adapted_from = None if run.reference == "untouched" else run.profile.encoder.base
    meta = model_meta(
        _name(run), revision=weights[:16], settings=content["settings"], adapted_from=adapted_from
    )
    results = [
        task_result(task, metrics)
        for task, metrics in tasks
        if task is not None and task.main_score.replace("_at_", "@") in metrics
    ]
    write_results(folder, meta, results)


def _name(run: Run) -> str:
    """``organisation/model``: the base's own where that is the model, else `ragcun/EXPERIMENT`."""
    if run.reference is None:
        return f"ragcun/{run.name}-seed-{run.seed}"
    base = run.profile.encoder.base
    if run.reference == "untouched" and re.fullmatch(r"[^/\s]+/[^/\s]+", base):
        return base
    tail = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(base).name) or "model"
    return f"ragcun/{run.reference}-{tail}"


def task_result(task: MtebTask, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """The content of ``<task>.json``: mteb's ``TaskResult``.

    ``ndcg@10`` is ``ndcg_at_10`` there, and so are map, mrr, recall, precision and hit_rate at any
    depth; other metrics and those not measured are left out. ``mteb_version`` is null, as it was
    not mteb that measured.

    Args:
        task: of `task_of`, or of `recorded_task` for a data set ``mteb:NAME``.
        metrics: metric -> mean over queries, in [0, 1].

    Raises:
        ValueError: the main score is missing, or a value is not finite.
    """
    named = {
        f"{match[1]}_at_{match[2]}": value
        for metric, value in metrics.items()
        if value is not None and (match := _METRIC.fullmatch(metric))
    }
    if task.main_score not in named:
        raise ValueError(f"no {task.main_score} of {task.name} among {', '.join(metrics)}")
    if wrong := [name for name, value in named.items() if not math.isfinite(value)]:
        raise ValueError(f"{', '.join(wrong)} of {task.name} is not a finite number")
    scores = {name: round(value, _DECIMALS) for name, value in named.items()}
    return {
        "dataset_revision": task.revision,
        "task_name": task.name,
        "mteb_version": None,
        "scores": {
            task.split: [
                {
                    **scores,
                    "main_score": scores[task.main_score],
                    "hf_subset": task.subset,
                    "languages": list(task.languages),
                }
            ]
        },
        "evaluation_time": None,
        "kg_co2_emissions": None,
    }


def model_meta(
    name: str, *, revision: str, settings: Mapping[str, Any], adapted_from: str | None
) -> dict[str, Any]:
    """The content of ``model_meta.json``: mteb's ``ModelMeta``; what is not known is null.

    Args:
        name: ``organisation/model``, as mteb wants it.
        revision: a commit of it, or what else tells one version from another.
        settings: of its evaluation, as its `metrics.json` holds them. The similarity euclidean is
            written as null: mteb has it, and refuses to read it from a file (2.26.24).
        adapted_from: the base encoder's name on the Hub.

    Raises:
        ValueError: the name has no organisation.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", name):
        raise ValueError(f"model {name!r} is not named as organisation/model")
    similarity = settings["similarity"].removeprefix("scaled_")
    unknown = (
        "loader release_date memory_usage_mb license open_weights public_training_code "
        "public_training_data reference training_datasets"
    )
    return {
        "name": name,
        "revision": revision,
        "languages": None,
        "n_parameters": settings["parameters"],
        "max_tokens": settings["max_tokens"],
        "embed_dim": settings["dimensions"],
        "similarity_fn_name": similarity if similarity in ("cosine", "dot") else None,
        "framework": ["Sentence Transformers", "PyTorch"],
        "use_instructions": False,
        "adapted_from": adapted_from,
        "modalities": ["text"],
        "model_type": ["dense"],
        **dict.fromkeys(unknown.split()),
    }


def write_results(
    folder: Path, meta: Mapping[str, Any], results: Iterable[Mapping[str, Any]]
) -> list[Path]:
    """Write ``<model>/<revision>/<task>.json`` and ``model_meta.json`` below a folder; the files.

    The folder is what mteb's ``ResultCache`` has as ``results``. The same content gives the same
    bytes.

    Args:
        folder: gets a folder for the model.
        meta: of `model_meta`.
        results: of `task_result`, one a task.
    """
    home = folder / paths.mteb_folder(str(meta["name"]), str(meta["revision"]))
    home.mkdir(parents=True, exist_ok=True)
    contents = {paths.MODEL_META: meta, **{f"{r['task_name']}.json": r for r in results}}
    for name, content in contents.items():
        write_atomically(home / name, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return [home / name for name in contents]
