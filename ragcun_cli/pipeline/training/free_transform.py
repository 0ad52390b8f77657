"""The free baseline: the base behind the best of some transforms that nothing is trained for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from sentence_transformers import SentenceTransformer

from ragcun_cli.core.isotropy.transforms import (
    ROTATIONS,
    TRANSFORMS,
    Affine,
    fit_transform,
    rotated,
)
from ragcun_cli.core.model import affine_encoder
from ragcun_cli.pipeline.encoders.encode import kept_base_of, set_kept_base
from ragcun_cli.pipeline.encoders.find import FoundEncoder
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.training.prepare import read_selection
from ragcun_cli.pipeline.training.start_encoder import save_reference, start_base, start_sample
from ragcun_cli.spec.paths import OutputsFolder


def choose_free_transform(
    run: Run,
    draft: Path,
    *,
    encoder: FoundEncoder,
    dataset: Path,
    device: str,
    outputs: OutputsFolder | None,
    selection: Mapping[str, Path],
    tested: Mapping[str, Path],
    progress: Progress,
) -> dict[str, Any]:
    """Save the base behind the transform and rotation that score best on the selection queries.

    All are fitted on passages of the training set, as the linear start is; the first of equals.
    """
    held_out = read_selection(run, selection, tested, seed=0)
    base = start_base(run.profile, encoder, device=device, progress=progress, outputs=outputs)
    sample = start_sample(run.profile, base, dataset, progress)
    found: dict[str, tuple[float, Affine]] = {}
    with progress.bar(
        f"choose {run.label}", total=len(TRANSFORMS) * len(ROTATIONS), unit="transforms"
    ) as advance:
        for name in TRANSFORMS:
            fitted = fit_transform(name, sample)
            for rotation in ROTATIONS:
                transform = rotated(fitted, rotation, sample)
                scores = held_out.scores(_behind(base, transform))
                found[transform.name] = mean(scores.values()), transform
                advance(1)
    score, best = max(found.values(), key=lambda pair: pair[0])
    model = _behind(base, best)
    held_out.write(draft)
    return save_reference(model, draft, run, encoder) | {
        "transform": best.name,
        "kept": f"{best.name}, the best of {len(found)} by nDCG@10 on "
        f"{len(held_out.texts)} queries of {run.profile.selected_on}, {score:.4f}",
        "scores": {name: score for name, (score, _) in found.items()},
    }


def _behind(base: SentenceTransformer, transform: Affine) -> SentenceTransformer:
    model = affine_encoder(base, transform.matrix, transform.mean)
    set_kept_base(model, kept_base_of(base))
    return model
