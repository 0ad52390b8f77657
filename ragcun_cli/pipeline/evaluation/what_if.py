"""What free changes of a model's embeddings do to its scores: a ladder, from one encoding."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter, ne
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from ragcun_cli.core.draw import VARIANTS, smallest
from ragcun_cli.core.isotropy import transforms
from ragcun_cli.core.isotropy.transforms import NONE, ROTATIONS, TRANSFORMS
from ragcun_cli.core.rankings.contrasts import contrast, holm
from ragcun_cli.core.search.quantise import Codec, parse_variant
from ragcun_cli.core.search.ranking import ExactTopK, Similarity
from ragcun_cli.pipeline.encoders.encode import encode
from ragcun_cli.pipeline.evaluation.query_scale import FACTORS
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.dense import SAMPLE, named_hits, similarity_of
from ragcun_cli.pipeline.search.held_out import digests_of, read_held_out, refuse_test_queries
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_set
from ragcun_cli.pipeline.search.rankings import ranking_of, score_ranking
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import WHAT_IF
from ragcun_cli.spec.section import LARGEST
from ragcun_cli.spec.training_config import SelectionConfig

FIT_ROWS = 20_000
"""Passages that transforms are fitted to, at most: those whose ids have the smallest digests."""

FP32 = "fp32"
METRIC, _DEPTH = "ndcg@10", 10


class Change(NamedTuple):
    """One way to rank by the embeddings of a model."""

    transform: str = NONE
    rotation: str = NONE
    form: str = FP32
    """Precision or width: else a name of `parse_variant`."""
    similarity: str = ""
    """Empty for the model's own."""
    query_scale: float = 1.0
    """Factor of the queries; one that is not 1 stands with Euclidean distance."""

    @property
    def name(self) -> str:
        """What it changes, for people."""
        scaled = f"scaled_euclidean by {self.query_scale:.3g}"
        by = self.similarity if self.query_scale == 1 else scaled
        said = (self.transform, self.rotation, by, self.form)
        return " + ".join(word for word in said if word not in (NONE, "", FP32)) or "untouched"


UNTOUCHED = Change()

ChangeScores = dict[Change, NDArray[np.float64]]
"""``(n,)`` nDCG@10 of the judged queries, in the order of the judgements."""


def changes_of(width: int, own: str) -> dict[str, list[Change]]:
    """All that is searched, about a hundred ways, in groups among which dev queries choose.

    Signs are of centred values, so binary forms are not searched with the mean removed; a
    rotation is of no use before a cut.

    Args:
        width: of the embeddings.
        own: the model's similarity.
    """
    signed = [name for name in TRANSFORMS if name != "mean-removal"]
    plain = UNTOUCHED if own == "euclidean" else Change(similarity="euclidean")
    others = [name for name in get_args(Similarity) if name != own]
    scales = [factor for factor in FACTORS[::4] if factor != 1]
    cuts = [f"truncate-{width // part}" for part in (2, 3)]
    return {
        FP32: [Change(name) for name in TRANSFORMS],
        "int8": [Change(name, turn, "int8") for name in TRANSFORMS for turn in ROTATIONS[:2]],
        "binary": [Change(name, turn, "binary") for name in signed for turn in ROTATIONS],
        **{cut: [Change(name, form=cut) for name in TRANSFORMS] for cut in cuts},
        "similarity": [UNTOUCHED, *(Change(similarity=name) for name in others)],
        "query scale": [plain, *(Change(similarity="euclidean", query_scale=a) for a in scales)],
    }


@dataclass(frozen=True)
class WhatIf:
    """Scores free changes of one model's embeddings."""

    model: SentenceTransformer
    config: EvaluationConfig
    """How texts are encoded and compared."""
    progress: Progress

    def scores(self, tests: Sequence[JudgedSet], changes: Sequence[Change]) -> list[ChangeScores]:
        """Of judged sets that share a corpus, whose passages are encoded once.

        Transforms are fitted to passages, and forms to the first `SAMPLE` of those, as in a
        search. All embeddings are held in memory, some three times.

        Args:
            tests: whose queries are asked, none in two.
            changes: to search.

        Raises:
            ValueError: an embedding is of no use, as of length 0 under cosine.
        """
        corpus, asked = tests[0].corpus, [query for test in tests for query in test.queries]
        how: Any = self.config.model_dump(include={"batch_size", "precision"})
        how |= {"label": f"{tests[0].name} texts", "progress": self.progress}
        passages = encode(self.model, corpus.texts, side="document", **how)
        texts = [[*test.queries.values()] for test in tests]
        queries = torch.cat([encode(self.model, some, side="query", **how) for some in texts])
        sample = passages[corpus.rows_of(smallest(VARIANTS, corpus.ids, FIT_ROWS))].cpu()
        scored, map_of = [ChangeScores() for _ in tests], itemgetter(0, 1)
        label, own = f"{tests[0].name} what if", similarity_of(self.model, self.config)
        with self.progress.bar(label, total=len(changes), unit="searches") as advance:
            for (transform, rotation), some in groupby(sorted(changes, key=map_of), map_of):
                affine = transforms.fit_transform(transform, sample)
                affine = transforms.rotated(affine, rotation, sample)
                turned, given, rows = affine(passages), affine(queries), affine(sample[:SAMPLE])
                for change in some:
                    similarity = cast(Similarity, change.similarity or own)
                    codec = Codec(Tensor.float, Tensor.float, similarity, 4 * rows.shape[1])
                    if change.form != FP32:
                        codec = parse_variant(change.form).fit(rows, similarity=similarity)
                    scaled = codec.queries(change.query_scale * given)
                    search = ExactTopK(scaled, k=_DEPTH + 1, similarity=codec.similarity)
                    search.add(codec.passages(turned), first_row=0)
                    ranking = ranking_of(named_hits(search.hits(), asked), corpus, depth=_DEPTH)
                    for scores, test in zip(scored, tests, strict=True):
                        values = score_ranking(ranking, test, depth=_DEPTH)[METRIC].values()
                        scores[change] = np.array([*values])
                    advance(1)
        return scored

    def write(
        self, folders: Mapping[str, Path], datasets: Sequence[str], dev: Sequence[str], draft: Path
    ) -> dict[str, Any]:
        """Search all changes, choose on dev queries, write the ladder, and return what was chosen.

        Args:
            folders: of the data sets.
            datasets: whose reported split is scored.
            dev: whose dev queries choose, but those that the same set reports on; nothing is
                chosen without any.
            draft: to write into.

        Raises:
            DataError: a dev query is a test query of another set, a set has fewer than two test
                queries, or an embedding is of no use.
        """
        tests = {name: read_judged_set(name, folders[name]) for name in datasets}
        every = SelectionConfig(queries=LARGEST, passages=LARGEST)
        tuned = {name: read_held_out(folders[name], name, "dev", every, seed=0) for name in dev}
        for test in tests.values():
            digests = (digest for some in tuned.values() for digest in digests_of(some.queries))
            refuse_test_queries(digests, test, where="--dev")
        sets = {"test": tests, "dev": tuned}
        own = similarity_of(self.model, self.config)
        groups = changes_of(self.model.get_embedding_dimension(), own)
        changes = [*dict.fromkeys(change for some in groups.values() for change in some)]
        found: dict[str, dict[str, ChangeScores]] = {role: {} for role in sets}
        try:
            for name in folders:
                asked = {role: named[name] for role, named in sets.items() if name in named}
                scored = self.scores([*asked.values()], changes)
                for role, scores in zip(asked, scored, strict=True):
                    found[role][name] = scores
            content = {"similarity": own, **ladder(groups, **found)}
        except ValueError as error:
            raise DataError(f"free changes cannot be scored: {error}") from error
        text = json.dumps(content, indent=1, allow_nan=False)
        (draft / WHAT_IF).write_text(text + "\n", encoding="utf-8")
        return {"chosen": {group: one["name"] for group, one in content["chosen"].items()}}


def ladder(
    groups: Mapping[str, Sequence[Change]],
    test: Mapping[str, ChangeScores],
    dev: Mapping[str, ChangeScores],
) -> dict[str, Any]:
    """The rungs with their differences to the untouched base, and what dev queries choose.

    A rung changes one thing, a rotation standing with the form that sees it, or was chosen. Sets
    weigh the same; of equal scores on dev the first change is chosen. The differences of what is
    chosen are to the same form of the untouched embeddings.

    Args:
        groups: name -> changes among which one is chosen.
        test: data set -> scores of its test queries.
        dev: the same of dev queries; without any nothing is chosen.

    Raises:
        ValueError: a set has fewer than two test queries.
    """

    def row(change: Change, against: Change) -> dict[str, Any]:
        differences = {name: scores[change] - scores[against] for name, scores in test.items()}
        found = contrast(differences, dict.fromkeys(test, 1.0))
        return {
            "name": change.name,
            **change._asdict(),
            METRIC: _mean(test, change),
            "by_set": {name: fmean(scores[change]) for name, scores in test.items()},
            "difference": [found.mean, *found.interval()],
            "p": found.p_value,
            "dev": _mean(dev, change),
            "dev_untouched": _mean(dev, against),
            "dev_by_set": {name: fmean(scores[change]) for name, scores in dev.items()},
        }

    asked = groups if dev else {}
    chosen = {
        name: max(some, key=lambda change: _mean(dev, change) or 0) for name, some in asked.items()
    }
    changes = dict.fromkeys(change for some in groups.values() for change in some)
    rungs = {
        change.name: row(change, UNTOUCHED)
        for change in changes
        if sum(map(ne, change, UNTOUCHED)) - (change.rotation != NONE) == 1
        or change in {*chosen.values()} - {UNTOUCHED}
    }
    adjusted = holm({name: found["p"] for name, found in rungs.items()})
    return {
        "untouched": row(UNTOUCHED, UNTOUCHED),
        "rungs": [found | {"p_holm": adjusted[name]} for name, found in rungs.items()],
        "chosen": {name: row(change, Change(form=change.form)) for name, change in chosen.items()},
    }


def _mean(found: Mapping[str, ChangeScores], change: Change) -> Any:  # noqa: ANN401 - None of no sets
    return fmean(fmean(scores[change]) for scores in found.values()) if found else None
