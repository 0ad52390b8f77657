"""Measure how evenly one run's embeddings of the test texts fill their space."""

from __future__ import annotations

import hashlib
import heapq
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from ragcun_cli.core.isotropy import measure_isotropy
from ragcun_cli.pipeline.encode import encode
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.test_sets import TestSet, read_test_sets
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import ISOTROPY
from ragcun_cli.spec.profile import EvaluationConfig, IsotropyConfig


def write_isotropy(
    model: SentenceTransformer,
    folders: Mapping[str, Path],
    draft: Path,
    *,
    config: IsotropyConfig,
    evaluation: EvaluationConfig,
    progress: Progress,
) -> dict[str, Any]:
    """Encode the chosen texts of all sets, write the measures of their embeddings, return them.

    Raises:
        DataError: two texts are not enough to speak of a spread, or all embed alike.
    """
    texts = _chosen_texts(folders, config)
    embeddings = encode(
        model,
        texts,
        side="query" if config.texts == "queries" else "document",
        batch_size=evaluation.batch_size,
        precision=evaluation.precision,
        label=f"isotropy {config.texts}",
        progress=progress,
    )
    try:
        measured = _finite(asdict(measure_isotropy(embeddings.double().cpu().numpy())))
    except ValueError as error:
        raise DataError(f"isotropy of {config.texts}: {error}") from error
    content = {"measured_on": config.texts, "datasets": list(folders), **measured}
    (draft / ISOTROPY).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content


def _finite(measures: dict[str, Any]) -> dict[str, Any]:
    """A measure that has no finite value for these texts is not measured."""
    return {key: value if math.isfinite(value) else None for key, value in measures.items()}


def _chosen_texts(folders: Mapping[str, Path], config: IsotropyConfig) -> list[str]:
    """Those with the smallest digests of set and id, in the order of set and id."""
    tests = [test for name, folder in folders.items() for test in read_test_sets(name, folder)]
    named = (
        (hashlib.sha256(key.encode()).digest(), key, text)
        for test in tests
        for key, text in _texts_of(test, config.texts)
        if text
    )
    chosen = heapq.nsmallest(config.max_texts, named)
    return [text for _, _, text in sorted(chosen, key=itemgetter(1))]


def _texts_of(test: TestSet, texts: str) -> Iterator[tuple[str, str]]:
    if texts == "queries":
        pairs: Iterable[tuple[str, str]] = test.queries.items()
    else:
        pairs = ((passage.id, passage.content) for passage in test.corpus)
    return ((f"{test.name}/{name}", text) for name, text in pairs)
