"""Every measure of one side's embeddings, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from ragcun_cli.core.isotropy.embedding_pass import EmbeddingPass
from ragcun_cli.core.isotropy.gaussian_null import null_intervals
from ragcun_cli.core.isotropy.geometry import measure_pairs
from ragcun_cli.core.isotropy.half_samples import curve, half_differences, half_width
from ragcun_cli.core.isotropy.moments import Moments
from ragcun_cli.core.isotropy.spectrum import Isotropy, covariance_eigenvalues, isotropy_of
from ragcun_cli.core.objective.sigreg import unbiased_sigreg, unit_directions

SLICES = 1024
DIRECTIONS_SEED = 0
WITHOUT_INTERVAL = ("texts", "dimensions", "plan_score_of_gaussian")
LENGTH_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
CURVE = (
    "texts",
    "plan_score",
    "plan_score_of_gaussian",
    "unevenness_corrected",
    "plan_score_corrected",
    "participation_ratio",
    "participation_ratio_corrected",
    "effective_rank",
)


def measures_of(seen: EmbeddingPass, *, device: str = "cpu") -> dict[str, Any]:
    """Measures, their intervals, those of a Gaussian, spectrum, curve and histograms.

    What has no finite value is None. ``intervals`` and ``half_differences`` are None where there
    are too few texts for two halves. ``sigreg_rescaled`` is of rows made as long as those of
    N(0, I) in the root mean square, so that it says nothing of scale.

    Args:
        seen: all embeddings of one side.
        device: where the measures of rows are computed.

    Raises:
        ValueError: under three texts or two dimensions, or texts that all embed alike.
    """
    moments, blocks = seen.moments.total(), seen.moments.blocks
    measures = isotropy_of(moments)
    spectrum = covariance_eigenvalues(moments)[::-1]
    return {
        **_finite(asdict(measures)),
        **_of_rows(seen, moments, device=device),
        **_halves(measures, blocks),
        "gaussian_intervals": null_intervals(moments.count, dimensions=moments.dimensions),
        "spectrum": spectrum.tolist(),
        "curve": _curve(blocks),
    }


def _of_rows(seen: EmbeddingPass, moments: Moments, *, device: str) -> dict[str, Any]:
    """Of the reservoir: what moments cannot tell."""
    sample = torch.from_numpy(np.asarray(seen.reservoir.rows())).to(device)
    pairs = measure_pairs(sample)
    directions = unit_directions(SLICES, moments.dimensions, seed=DIRECTIONS_SEED)
    scale = math.sqrt(moments.dimensions / moments.mean_square)
    lengths = sample.double().norm(dim=1).cpu().numpy()
    return {
        "sampled": len(sample),
        "uniformity": pairs.uniformity,
        "sigreg": unbiased_sigreg(sample, directions),
        "sigreg_rescaled": unbiased_sigreg(scale * sample, directions),
        "norm_quantiles": {
            str(share): float(value)
            for share, value in zip(
                LENGTH_QUANTILES, np.quantile(lengths, LENGTH_QUANTILES), strict=True
            )
        },
        "cosine_histogram": list(pairs.counts),
    }


def _halves(measures: Isotropy, blocks: Sequence[Moments]) -> dict[str, Any]:
    differences = half_differences(blocks)
    if differences is None:
        return {"intervals": None, "half_differences": None}
    kept = {
        name: values
        for name, values in differences.items()
        if name not in WITHOUT_INTERVAL and np.isfinite(values).all()
    }
    values = asdict(measures)
    return {
        "intervals": {
            name: [values[name] - half_width(halves), values[name] + half_width(halves)]
            for name, halves in kept.items()
            if math.isfinite(values[name])
        },
        "half_differences": {name: halves.tolist() for name, halves in kept.items()},
    }


def _curve(blocks: Sequence[Moments]) -> dict[str, list[Any]]:
    points = [_finite(asdict(point)) for point in curve(blocks)]
    return {name: [point[name] for point in points] for name in CURVE}


def _finite(measures: dict[str, Any]) -> dict[str, Any]:
    """A measure that has no finite value for these texts is not measured."""
    return {key: value if math.isfinite(value) else None for key, value in measures.items()}
