"""An evaluation's scores in mteb's layout, beside ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data.mteb_names import MtebTask, recorded_task, task_of
from ragcun_cli.pipeline.evaluation.mteb_files import model_meta, task_result, write_results
from ragcun_cli.pipeline.stages.runs import Run


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
    tasks: list[tuple[MtebTask | None, Mapping[str, float]]] = [
        (task_of(dataset) or recorded_task(data), content["metrics"])
    ]
    for part, metrics in content.get("parts", {}).items():
        tasks.append((task_of(f"{dataset}/{part}"), metrics))
    settings = content["settings"]
    meta = model_meta(
        _name(run),
        revision=weights[:16],
        similarity=settings["similarity"].removeprefix("scaled_"),
        dimensions=settings["dimensions"],
        max_tokens=settings["max_tokens"],
        parameters=settings["parameters"],
        adapted_from=None if run.reference == "untouched" else run.profile.encoder.base,
    )
    known = [
        task_result(task, metrics)
        for task, metrics in tasks
        if task is not None and task.main_score.replace("_at_", "@") in metrics
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, meta, known)


def _name(run: Run) -> str:
    """``organisation/model``: the base's own where that is the model, else `ragcun/EXPERIMENT`."""
    if run.reference is None:
        return f"ragcun/{run.name}-seed-{run.seed}"
    base = run.profile.encoder.base
    if run.reference == "untouched" and re.fullmatch(r"[^/\s]+/[^/\s]+", base):
        return base
    tail = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(base).name) or "model"
    return f"ragcun/{run.reference}-{tail}"
