"""What free changes of a model's embeddings do to its scores: a ladder, from one encoding."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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
from ragcun_cli.core.search.ranking import ExactTopK, Hits, Similarity
from ragcun_cli.pipeline.encoders.encode import encode_block
from ragcun_cli.pipeline.encoders.kept import EmbeddingCache
from ragcun_cli.pipeline.evaluation.query_scale import FACTORS
from ragcun_cli.pipeline.machine.progress import Advance, Progress
from ragcun_cli.pipeline.search.dense import SAMPLE, WHOLE, named_hits, similarity_of
from ragcun_cli.pipeline.search.held_out import digests_of
from ragcun_cli.pipeline.search.judged import JudgedSet, read_judged_set
from ragcun_cli.pipeline.search.rankings import ranking_of, score_ranking
from ragcun_cli.spec.errors import DataError, EncoderError
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import WHAT_IF

FIT_ROWS = 20_000
"""Passages that transforms are fitted to, at most: those whose ids have the smallest digests."""

FP32 = "fp32"
_SCALED = "scaled_euclidean"
METRIC, _DEPTH = "ndcg@10", 10


class Cell(NamedTuple):
    """One way to rank by the embeddings of a model."""

    form: str = FP32
    """Precision or width: else a name of `parse_variant`."""
    transform: str = NONE
    rotation: str = NONE
    similarity: str = ""
    """Empty for the model's own."""
    query_scale: float = 1.0

    @property
    def name(self) -> str:
        """What it changes, for people."""
        factor = f" by {self.query_scale:.3g}" if self.similarity == _SCALED else ""
        said = (self.transform, self.rotation, self.similarity + factor, self.form)
        return " + ".join(word for word in said if word not in (NONE, "", FP32)) or "untouched"

    @property
    def group(self) -> str:
        """Of those among which one is chosen on dev queries; empty for none."""
        return self.similarity * (self.similarity == _SCALED) if self.similarity else self.form

    @property
    def is_rung(self) -> bool:
        """Whether it changes one thing; a rotation that a precision sees stands with that."""
        changed = (self.transform != NONE, self.form != FP32, self.similarity != "")
        return sum(changed) == 1 and self.similarity != _SCALED


BASE = Cell()

Scores = dict[Cell, NDArray[np.float64]]
"""``(n,)`` nDCG@10 of the judged queries, in the order of the judgements."""


def cells_of(width: int, own: str) -> list[Cell]:
    """All that is searched, about a hundred ways; of equal ones the first is chosen.

    Args:
        width: of the embeddings.
        own: the model's similarity.
    """
    cells = [Cell(transform=name) for name in TRANSFORMS]
    cells += [Cell("int8", name, turn) for name in TRANSFORMS for turn in ROTATIONS[:2]]
    signed = [name for name in TRANSFORMS if name != "mean-removal"]  # signs are of centred values
    cells += [Cell("binary", name, turn) for name in signed for turn in ROTATIONS]
    cells += [Cell(f"truncate-{width // n}", name) for n in (2, 3) for name in TRANSFORMS]
    cells += [Cell(similarity=name) for name in get_args(Similarity) if name != own]
    factors = sorted(FACTORS[::4], key=lambda factor: abs(np.log(factor)))
    return cells + [Cell(similarity=_SCALED, query_scale=factor) for factor in factors]


def fit_cells(
    sample: Tensor, cells: Sequence[Cell], own: Similarity, advance: Advance
) -> list[tuple[transforms.Affine, dict[Cell, Codec]]]:
    """The maps that cells need, each once, with what makes the form of each cell after it.

    Args:
        sample: ``(n, d)`` embeddings of passages, in an order that says nothing of them; forms are
            fitted to the first `SAMPLE`, which a search fits them to.
        cells: to fit.
        own: the model's similarity.
        advance: is told of cells.
    """
    found: dict[tuple[str, str], tuple[transforms.Affine, dict[Cell, Codec]]] = {}
    for cell in cells:
        if (key := (cell.transform, cell.rotation)) not in found:
            affine = transforms.fit_transform(cell.transform, sample)
            found[key] = transforms.rotated(affine, cell.rotation, sample), {}
        affine, codecs = found[key]
        how = cast(Similarity, cell.similarity.removeprefix("scaled_") or own)
        codecs[cell] = Codec(Tensor.float, Tensor.float, how, 4 * len(affine.matrix))
        if cell.form != FP32:
            codecs[cell] = parse_variant(cell.form).fit(affine(sample[:SAMPLE]), similarity=how)
        advance(1)
    return list(found.values())


def score_cells(
    model: SentenceTransformer,
    tests: Sequence[JudgedSet],
    folder: Path,
    config: EvaluationConfig,
    progress: Progress,
) -> list[Scores]:
    """The scores of judged sets that share a corpus, whose passages are encoded once.

    Args:
        model: to encode with, in the blocks of a search.
        tests: whose queries are asked.
        folder: for the embeddings.
        config: how texts are encoded and compared.
        progress: is told.

    Raises:
        EncoderError: an embedding is of no use, as of length 0 under cosine.
    """
    name, corpus, own = tests[0].name, tests[0].corpus, similarity_of(model, config)
    how: Any = {"batch_size": config.batch_size, "precision": config.precision}
    cache, hits = EmbeddingCache(folder, config.embeddings), dict[Cell, Hits]()
    blocks = WHOLE.blocks(len(corpus), config.block_passages)
    with progress.bar(f"{name} passages", total=len(corpus), unit="texts") as advance:
        for rows in blocks:
            texts = corpus.texts[rows.start : rows.stop]
            cache.write(rows, encode_block(model, texts, side="document", advance=advance, **how))
    asked = [encode_block(model, [*test.queries.values()], side="query", **how) for test in tests]
    queries, sizes = torch.cat(asked), [len(some) for some in asked]
    sample = cache.take(corpus.rows_of(smallest(VARIANTS, corpus.ids, FIT_ROWS))).float()
    cells = cells_of(queries.shape[1], own)
    total = len(cells) * (1 + len(blocks))
    with progress.bar(f"{name} what if", total=total, unit="searches") as advance:
        try:
            fitted = fit_cells(sample, cells, own, advance)
            for rows in blocks:
                passages = cast(Tensor, cache.read(rows)).to(queries.device)
                for affine, codecs in fitted:
                    turned, given = affine(passages), affine(queries)
                    for cell, codec in codecs.items():
                        ranked = codec.queries(cell.query_scale * given)
                        search = ExactTopK(
                            ranked, k=_DEPTH + 1, similarity=codec.similarity, held=hits.get(cell)
                        )
                        search.add(codec.passages(turned), first_row=rows.start)
                        hits[cell] = search.hits()
                        advance(1)
        except ValueError as error:
            raise EncoderError(f"no what-if of the model on '{name}': {error}") from error
    places = np.split(np.arange(len(queries)), np.cumsum(sizes)[:-1])
    return [
        {cell: _ndcg(test, hits[cell], some) for cell in cells}
        for test, some in zip(tests, places, strict=True)
    ]


def _ndcg(test: JudgedSet, hits: Hits, places: NDArray[np.int64]) -> NDArray[np.float64]:
    named = named_hits(Hits(hits.rows[places], hits.scores[places]), test.queries)
    ranking = ranking_of(named, test.corpus, depth=_DEPTH)
    return np.array([*score_ranking(ranking, test, depth=_DEPTH)[METRIC].values()])


def write_what_if(
    model: SentenceTransformer,
    folders: Mapping[str, Path],
    datasets: Sequence[str],
    dev: Sequence[str],
    draft: Path,
    *,
    config: EvaluationConfig,
    progress: Progress,
) -> dict[str, Any]:
    """Search all cells, choose on dev queries, write the ladder, and return what was chosen.

    Args:
        model: whose embeddings are changed.
        folders: of the data sets.
        datasets: whose reported split is scored.
        dev: whose dev queries choose, but those that are test queries; nothing is chosen without.
        draft: to write into.
        config: how texts are encoded and compared.
        progress: is told.

    Raises:
        DataError: a set has no dev query that is no test query, or fewer than two test queries.
        EncoderError: as `score_cells`.
    """
    tests = {
        "test": {name: read_judged_set(name, folders[name]) for name in datasets},
        "dev": {name: read_judged_set(name, folders[name], split="dev") for name in dev},
    }
    known = [digest for test in tests["test"].values() for digest in digests_of(test.queries)]
    tests["dev"] = {name: _without(known, test, progress) for name, test in tests["dev"].items()}
    found: dict[str, dict[str, Scores]] = {role: {} for role in tests}
    for name, folder in folders.items():
        roles = {role: sets[name] for role, sets in tests.items() if name in sets}
        kept = draft / "embeddings" / folder.name
        scored = score_cells(model, [*roles.values()], kept, config, progress)
        for role, scores in zip(roles, scored, strict=True):
            found[role][name] = scores
    content = {"similarity": similarity_of(model, config), **ladder(**found)}
    text = json.dumps(content, indent=1, allow_nan=False)
    (draft / WHAT_IF).write_text(text + "\n", encoding="utf-8")
    return {"chosen": {one["group"]: one["name"] for one in content["chosen"]}}


def _without(known: Collection[str], dev: JudgedSet, progress: Progress) -> JudgedSet:
    """The judged set without queries that have the words of test queries."""
    digests = zip(dev.queries.items(), digests_of(dev.queries), strict=True)
    kept = {name: text for (name, text), digest in digests if digest not in known}
    if not kept:
        what = f"every dev query of '{dev.name}' is a test query of a set that is reported"
        raise DataError(what, hint="--dev ANOTHER")
    if len(kept) < len(dev.queries):
        number = len(dev.queries) - len(kept)
        progress.note(f"{dev.name}: dev queries that are test queries, left out: {number}")
    return replace(dev, queries=kept, qrels={name: dev.qrels[name] for name in kept})


def ladder(test: Mapping[str, Scores], dev: Mapping[str, Scores]) -> dict[str, Any]:
    """The rungs with their differences to the untouched base, and what dev queries choose.

    Sets weigh the same; of equal scores on dev the first cell is chosen. The differences of what
    is chosen are to the same form of the untouched embeddings.

    Args:
        test: data set -> scores of its test queries.
        dev: the same of dev queries.

    Raises:
        DataError: a set has fewer than two test queries.
    """

    def row(cell: Cell, against: Cell) -> dict[str, Any]:
        differences = {name: scores[cell] - scores[against] for name, scores in test.items()}
        try:
            found = contrast(differences, dict.fromkeys(test, 1.0))
        except ValueError as error:
            raise DataError(f"no differences can be told: {error}") from error
        return {
            "name": cell.name,
            "group": cell.group,
            **cell._asdict(),
            METRIC: _mean(test, cell),
            "dev": _mean(dev, cell) if dev else None,
            "dev_untouched": _mean(dev, against) if dev else None,
            "by_set": {name: fmean(scores[cell]) for name, scores in test.items()},
            "dev_by_set": {name: fmean(scores[cell]) for name, scores in dev.items()},
            "difference": [found.mean, *found.interval()],
            "p": found.p_value,
        }

    cells = list(next(iter(test.values())))
    best: dict[str, Cell] = {}
    for cell in cells if dev else ():
        if cell.group and _mean(dev, cell) > _mean(dev, best.setdefault(cell.group, cell)):
            best[cell.group] = cell
    chosen = [*best.values()]
    rungs = [row(one, BASE) for one in cells if one.is_rung or (one in chosen and one != BASE)]
    adjusted = holm({one["name"]: one["p"] for one in rungs})
    return {
        "untouched": row(BASE, BASE),
        "rungs": [one | {"p_holm": adjusted[one["name"]]} for one in rungs],
        "chosen": [row(one, Cell(one.form)) for one in chosen],
    }


def _mean(found: Mapping[str, Scores], cell: Cell) -> float:
    return fmean(fmean(scores[cell]) for scores in found.values())
