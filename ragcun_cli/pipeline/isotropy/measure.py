"""Measure how one run's embeddings of test queries and passages fill their space."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.draw import ISOTROPY_TEXTS, number_of, smallest
from ragcun_cli.core.isotropy.embedding_pass import EmbeddingPass
from ragcun_cli.core.isotropy.geometry import alignment, mean_gap
from ragcun_cli.pipeline.encoders.base_outputs import WantedTexts, on_wanted_outputs
from ragcun_cli.pipeline.encoders.encode import (
    TEXTS_AT_ONCE,
    Side,
    encode,
    kept_base_of,
    own_prompt,
)
from ragcun_cli.pipeline.isotropy.one_side import measures_of
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_sets
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import EvaluationConfig, IsotropyConfig
from ragcun_cli.spec.paths import ISOTROPY

Row = NDArray[np.float32]


def write_isotropy(
    model: SentenceTransformer,
    folders: Mapping[str, Path],
    draft: Path,
    *,
    config: IsotropyConfig,
    evaluation: EvaluationConfig,
    progress: Progress,
) -> dict[str, Any]:
    """Encode the chosen texts of all sets, write the measures of their embeddings, sum them up.

    Raises:
        DataError: there are too few texts to speak of a spread, all embed alike, or one embeds to
            nothing.
    """
    tests = {
        test.name: test for name, path in folders.items() for test in read_judged_sets(name, path)
    }
    texts = Texts(tests, config)
    pairs = texts.pairs()
    if kept_base_of(model) is not None:
        passages_too = [*texts.passages, *(passage for _, passage in pairs)]
        wanted = _wanted(model, tests, passages_too, block=evaluation.block_passages)
        model = on_wanted_outputs(
            *(model, wanted, draft / "base_outputs.f32"),
            batch_size=evaluation.batch_size,
            precision=evaluation.precision,
            label="isotropy, base",
            progress=progress,
        )
    both = {"model": model, "evaluation": evaluation, "progress": progress}
    queries = Encoded(texts, "query", **both)
    passages = Encoded(texts, "document", **both)
    content: dict[str, Any] = {
        "datasets": list(folders),
        "queries": queries.measure(texts.queries, kept=[query for query, _ in pairs]),
        "passages": passages.measure(texts.passages, kept=[passage for _, passage in pairs]),
    }
    passages.fetch([passage for _, passage in pairs])
    content["pairs"] = _pairs(
        [
            (queries.rows[query], passages.rows[passage])
            for query, passage in pairs
            if passage in passages.rows
        ]
    )
    text = json.dumps(content, indent=2, allow_nan=False)
    (draft / ISOTROPY).write_text(text + "\n", encoding="utf-8")
    return {
        "texts": {side: content[side]["texts"] for side in ("queries", "passages")},
        "pairs": content["pairs"]["pairs"],
        "plan_score": content["queries"]["plan_score"],
    }


def _wanted(
    model: SentenceTransformer,
    tests: Mapping[str, JudgedSet],
    passages: Sequence[str],
    *,
    block: int,
) -> list[WantedTexts]:
    """Some passages, in evaluation's blocks where they are many, and all queries."""
    before, asked = own_prompt(model, "document") or "", own_prompt(model, "query") or ""
    found = []
    for name, identifiers in _by_test(passages).items():
        corpus = tests[name].corpus
        rows = corpus.rows_of(identifiers)
        found.append(WantedTexts.passages(corpus, rows, prompt=before, block=block))
    queries = [list(test.queries.values()) for test in tests.values()]
    return found + [WantedTexts.all_of(some, prompt=asked, block=len(some)) for some in queries]


def _pairs(rows: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    if not rows:
        return {"pairs": 0, "alignment": None, "mean_gap": None}
    sides = [torch.from_numpy(np.stack(side)) for side in zip(*rows, strict=True)]
    return {"pairs": len(rows), "alignment": alignment(*sides), "mean_gap": mean_gap(*sides)}


class Texts:
    """The texts that are measured, by names: those with the smallest digests, in that order.

    A name is that of the test set and the id, parted by a tab.
    """

    def __init__(self, tests: Mapping[str, JudgedSet], config: IsotropyConfig) -> None:
        self._tests = tests
        self._pair_queries = config.pair_queries
        asked = [f"{test.name}\t{query}" for test in tests.values() for query in test.queries]
        held = (f"{test.name}\t{passage}" for test in tests.values() for passage in test.corpus.ids)
        self.queries = smallest(ISOTROPY_TEXTS, asked, config.max_queries or len(asked))
        self.passages = smallest(ISOTROPY_TEXTS, held, config.max_passages)

    def pairs(self) -> list[tuple[str, str]]:
        """Names of queries, each with one relevant passage: of them that of the smallest digest.

        Of the first so many measured queries; those without a relevant passage in the corpus are
        left out.
        """
        judged: dict[str, list[str]] = {}
        for query in self.queries[: self._pair_queries]:
            name, _, identifier = query.partition("\t")
            grades = self._tests[name].qrels[identifier]
            judged[query] = [f"{name}\t{passage}" for passage in grades if grades[passage] > 0]
        there = self._in_corpus({passage for passages in judged.values() for passage in passages})
        return [
            (query, passage)
            for query, passages in judged.items()
            for passage in smallest(ISOTROPY_TEXTS, (p for p in passages if p in there), 1)
        ]

    def _in_corpus(self, passages: Collection[str]) -> set[str]:
        found: set[str] = set()
        for test, identifiers in _by_test(passages).items():
            rows = self._tests[test].corpus.rows_of(identifiers)
            found |= {
                f"{test}\t{passage}"
                for passage, row in zip(identifiers, rows, strict=True)
                if row >= 0
            }
        return found

    def read(self, names: Sequence[str], side: Side) -> Iterator[tuple[str, str]]:
        """Names and texts, in this order; empty passages are left out."""
        texts: dict[str, str] = {}
        for test, identifiers in _by_test(names).items():
            held = self._tests[test]
            found = (
                [held.queries[identifier] for identifier in identifiers]
                if side == "query"
                else held.corpus.texts_by_id(identifiers)
            )
            keys = (f"{test}\t{identifier}" for identifier in identifiers)
            texts.update(zip(keys, found, strict=True))
        return ((name, texts[name]) for name in names if texts[name].strip())


def _by_test(names: Iterable[str]) -> dict[str, list[str]]:
    """Test set -> ids, in the order of the names."""
    found: dict[str, list[str]] = {}
    for name in names:
        test, _, identifier = name.partition("\t")
        found.setdefault(test, []).append(identifier)
    return found


class Encoded:
    """The embeddings of one side, of which the rows of some names are kept."""

    def __init__(
        self,
        texts: Texts,
        side: Side,
        *,
        model: SentenceTransformer,
        evaluation: EvaluationConfig,
        progress: Progress,
    ) -> None:
        self._texts, self._side, self._model = texts, side, model
        self._evaluation, self._progress = evaluation, progress
        self._label = "isotropy " + ("queries" if side == "query" else "passages")
        self.rows: dict[str, Row] = {}

    def measure(self, names: Sequence[str], *, kept: Collection[str]) -> dict[str, Any]:
        """All measures of the embeddings of these texts, in one pass."""
        wanted, seen = set(kept), EmbeddingPass()
        measured: list[str] = []
        for found, rows in self._encode(names):
            keys = np.array([number_of(ISOTROPY_TEXTS, name) for name in found], np.uint64)
            seen.add(rows, first_row=len(measured), keys=keys)
            measured += found
            self._keep(found, rows, wanted)
        device = self._model.device.type
        try:
            measures = measures_of(seen, device="cpu" if device == "mps" else device)
        except ValueError as error:
            raise DataError(f"{self._label}: {error}") from error
        return {"texts_digest": sha256("\n".join(measured).encode()).hexdigest(), **measures}

    def fetch(self, names: Sequence[str]) -> None:
        """Encode those of some texts of which no row was kept."""
        absent = list(dict.fromkeys(name for name in names if name not in self.rows))
        for found, rows in self._encode(absent):
            self._keep(found, rows, set(found))

    def _keep(self, names: Sequence[str], rows: Row, wanted: Collection[str]) -> None:
        self.rows |= {n: row.copy() for n, row in zip(names, rows, strict=True) if n in wanted}

    def _encode(self, names: Sequence[str]) -> Iterator[tuple[list[str], Row]]:
        for start in range(0, len(names), TEXTS_AT_ONCE):
            block = dict(self._texts.read(names[start : start + TEXTS_AT_ONCE], self._side))
            if not block:
                continue
            rows = encode(
                self._model,
                list(block.values()),
                side=self._side,
                batch_size=self._evaluation.batch_size,
                precision=self._evaluation.precision,
                label=self._label,
                progress=self._progress,
            )
            found = rows.cpu().numpy()
            self._refuse_unusable(list(block), found)
            yield list(block), found

    def _refuse_unusable(self, names: Sequence[str], rows: Row) -> None:
        bad = [
            name.replace("\t", "/")
            for name, row in zip(names, rows, strict=True)
            if not (np.isfinite(row).all() and row.any())
        ]
        if bad:
            raise DataError(
                f"{self._label}: {len(bad)} embeddings are not finite or have length 0, among them "
                + ", ".join(bad[:5])
            )
