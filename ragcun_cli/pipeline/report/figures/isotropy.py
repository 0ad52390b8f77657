"""Figures of isotropy: spectra, cosines and the score's dependence on the number of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import starmap

import numpy as np

from ragcun_cli.pipeline.report.figure import Figure, Series
from ragcun_cli.pipeline.report.rows import Measures, ModelRow

FILLED = 1e-6
"""Of the largest eigenvalue: those below it are the rounding of 32-bit embeddings."""
SIDES = {"queries": "test queries", "passages": "passages"}


def isotropy_figures(rows: Sequence[ModelRow]) -> list[Figure]:
    """Of queries and of passages: spectrum, curve over n, cosines. Without measures, none.

    Several seeds of one model are one line, the mean of theirs.
    """
    figures: list[Figure] = []
    for side, texts in SIDES.items():
        measured = {
            row.label: [seed.isotropy[side] for seed in row.seeds if seed.isotropy is not None]
            for row in rows
        }
        found = {label: each for label, each in measured.items() if each}
        if found:
            figures += [
                _spectrum(found, side, texts),
                _curve(found, side, texts),
                _cosines(found, side, texts),
            ]
    return figures


def _spectrum(measured: Mapping[str, list[Measures]], side: str, texts: str) -> Figure:
    def series(label: str, seeds: list[Measures]) -> Series:
        spectra = np.array([np.array(seed["spectrum"]) for seed in seeds])
        mean = (spectra / spectra.mean(axis=1, keepdims=True)).mean(axis=0)
        seen = mean[mean > FILLED * mean.max()]
        return Series(label, tuple(range(1, len(seen) + 1)), tuple(seen.tolist()))

    return Figure(
        key=f"spectrum-{side}",
        caption=f"A level spectrum of the embeddings of {texts} is an isotropic one",
        x_label="Rank of the eigenvalue",
        y_label="Eigenvalue over their mean",
        series=tuple(starmap(series, measured.items())),
        x_scale="log",
        y_scale="log",
        notes=(
            "Of the covariance, over the mean of all d. Level at 1: perfectly isotropic, with "
            "texts without number. Directions that hold no more than a millionth of the "
            "largest eigenvalue are not filled, and not drawn.",
        ),
    )


def _curve(measured: Mapping[str, list[Measures]], side: str, texts: str) -> Figure:
    def series(label: str, seeds: list[Measures]) -> Series:
        scores = np.mean([seed["curve"]["plan_score"] for seed in seeds], axis=0)
        return Series(label, tuple(seeds[0]["curve"]["texts"]), tuple(scores.tolist()))

    gaussians: dict[int, Series] = {}
    for seeds in measured.values():
        width, curve = seeds[0]["dimensions"], seeds[0]["curve"]
        expected = Series(
            f"a Gaussian, d = {width}",
            tuple(curve["texts"]),
            tuple(curve["plan_score_of_gaussian"]),
        )
        gaussians.setdefault(width, expected)
    return Figure(
        key=f"isotropy-by-n-{side}",
        caption=f"The isotropy score depends on the number of {texts} that it is of",
        x_label="Texts",
        y_label="1 − sd/mean",
        series=(*starmap(series, measured.items()), *gaussians.values()),
        x_scale="log",
        notes=("Nested samples of the measured texts, a twentieth more each time.",),
    )


def _cosines(measured: Mapping[str, list[Measures]], side: str, texts: str) -> Figure:
    counted = {
        label: [seed["cosine_histogram"] for seed in seeds] for label, seeds in measured.items()
    }
    shares = {
        label: np.mean([np.array(counts) / sum(counts) for counts in histograms], axis=0)
        for label, histograms in counted.items()
    }
    bins = len(next(iter(shares.values())))
    used = np.flatnonzero(np.sum(list(shares.values()), axis=0))
    first, last = int(used[0]), int(used[-1]) + 1
    edges = tuple((-1 + 2 * np.arange(first, last + 1) / bins).round(4).tolist())
    return Figure(
        key=f"cosines-{side}",
        caption=f"Isotropic embeddings of {texts} have cosines around 0",
        x_label="Cosine",
        y_label=f"Share of pairs, bins of {2 / bins:g}",
        series=tuple(
            Series(label, edges, (*share[first:last].tolist(), 0.0))
            for label, share in shares.items()
        ),
        kind="steps",
        notes=("All pairs of at most 20,000 texts.",),
    )
