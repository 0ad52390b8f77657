"""Exact search of one test set with one model, an encoding block after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from ragcun_cli.core.draw import VARIANTS, smallest
from ragcun_cli.core.search.quantise import Codec, parse_variant
from ragcun_cli.core.search.ranking import ExactTopK, Hits, Similarity
from ragcun_cli.pipeline.encoders.encode import Side, encode_block
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.division import CHUNK_PASSAGES
from ragcun_cli.pipeline.search.hits import QueryHits
from ragcun_cli.pipeline.search.hits_files import read_hits, write_hits
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.rankings import Ranking, ranking_of
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.measuring_config import EvaluationConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ragcun_cli.pipeline.encoders.kept import EmbeddingCache

VARIANT_DEPTH = 100
"""Passages kept for each query of a smaller form of the embeddings."""

SAMPLE = 1000
"""Passages that smaller forms are fitted to, those whose ids have the smallest digests."""

PLAIN = ""
"""Name of the hits of the embeddings as they are, among those of their smaller forms."""


@dataclass(frozen=True)
class Share:
    """Every ``stride``-th encoding block of a corpus, from the ``first`` on."""

    first: int = 0
    stride: int = 1

    def part(self, index: int, count: int) -> Share:
        """The share of one of several processes that divide this one."""
        return Share(self.first + index * self.stride, self.stride * count)

    def blocks(self, passages: int, size: int) -> list[range]:
        """Rows of each block."""
        starts = range(self.first * size, passages, self.stride * size)
        return [range(start, min(start + size, passages)) for start in starts]


WHOLE = Share()


class Search:
    """One model's search of one test set.

    A block's embeddings depend on its texts alone, and a hit on its block alone: how blocks are
    divided among chunks, shards and ranks, and where a search was interrupted, moves nothing.
    Memory holds a block, what was found, and 64 MiB of scores, whatever the size of the corpus.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        test: JudgedSet,
        config: EvaluationConfig,
        *,
        queries: Tensor | None = None,
        query_scale: float = 1.0,
        cache: EmbeddingCache | None = None,
        progress: Progress,
    ) -> None:
        """Encode the queries, unless they are.

        Args:
            model: has prompts, a maximum length and a similarity of its own.
            test: queries and passages.
            config: how to encode and to compare.
            queries: ``(q, d)`` embeddings of the queries.
            query_scale: factor of the queries' embeddings under `scaled_euclidean`.
            cache: keeps embeddings of passages.
            progress: is told.

        Raises:
            EncoderError: an embedding is not finite, or the model's similarity is not one of ours.
        """
        self._model, self._test, self._config = model, test, config
        self._cache, self._progress = cache, progress
        self._similarity = similarity_of(model, config)
        self.seconds: float | None = 0.0
        """Of ranking the embeddings as they are; None of a search that goes on from another."""
        if queries is None:
            texts = list(test.queries.values())
            with progress.bar(f"{test.name} queries", total=len(texts), unit="texts") as advance:
                queries = self._encoded(texts, "query", advance)
        self._queries = query_scale * queries.to(model.device)
        self._codecs = self._fitted(config.variants)

    def run(
        self, share: Share = WHOLE, *, state: Path | None = None, chunk: int = CHUNK_PASSAGES
    ) -> dict[str, Hits]:
        """The best passages of each query among those of a share.

        By ``PLAIN`` of the embeddings as they are, one more than the depth, as one of them may be
        the query itself; by the name of each smaller form of them.

        Args:
            share: which blocks.
            state: file that is written after each chunk, and that a second start goes on from.
            chunk: passages between two writes; whole blocks, at least one.

        Raises:
            EncoderError: an embedding is not finite, too long, or under cosine of length 0.
        """
        blocks = share.blocks(len(self._test.corpus), self._config.block_passages)
        every = max(1, chunk // self._config.block_passages)
        kept = None if state is None else read_hits(state)
        held, done = ({}, 0) if kept is None else kept
        self.seconds = None if done else 0.0
        rankers = self._rankers(held)
        self._rankers({})[PLAIN].add(self._queries[:2], first_row=0)  # loads what is timed below
        label, total = f"{self._test.name} passages", sum(map(len, blocks))
        with self._progress.bar(label, total=total, unit="texts") as advance:
            advance(sum(map(len, blocks[:done])))
            for number, rows in enumerate(blocks[done:], done + 1):
                self._add(rankers, rows, advance)
                if state is not None and (number % every == 0 or number == len(blocks)):
                    write_hits(state, _hits(rankers), done=number)
        return _hits(rankers)

    def _fitted(self, names: Sequence[str]) -> dict[str, Codec]:
        """The smaller forms, fitted to a sample of the passages."""
        if not names:
            return {}
        corpus = self._test.corpus
        chosen = sorted(smallest(VARIANTS, corpus.ids, SAMPLE))
        label = f"{self._test.name} sample"
        with self._progress.bar(label, total=len(chosen), unit="texts") as advance:
            sample = self._encoded(corpus.texts_by_id(chosen), "document", advance)
        try:
            return {n: parse_variant(n).fit(sample, similarity=self._similarity) for n in names}
        except ValueError as error:
            raise EncoderError(
                str(error), hint='--set \'evaluation.variants=["int8", "binary"]\''
            ) from error

    def _rankers(self, held: Mapping[str, Hits]) -> dict[str, ExactTopK]:
        def ranker(name: str, queries: Tensor, depth: int, similarity: Similarity) -> ExactTopK:
            try:
                return ExactTopK(queries, k=depth + 1, similarity=similarity, held=held.get(name))
            except ValueError as error:
                raise self._unusable(error) from error

        return {PLAIN: ranker(PLAIN, self._queries, self._config.depth, self._similarity)} | {
            name: ranker(name, codec.queries(self._queries), VARIANT_DEPTH, codec.similarity)
            for name, codec in self._codecs.items()
        }

    def _add(
        self, rankers: Mapping[str, ExactTopK], rows: range, advance: Callable[[int], None]
    ) -> None:
        passages = self._passages(rows, advance)
        self._refuse_without_direction(passages, rows)
        try:
            for name, ranker in rankers.items():
                form = passages if name == PLAIN else self._codecs[name].passages(passages)
                started = time.perf_counter()
                ranker.add(form, first_row=rows.start)
                if name == PLAIN and self.seconds is not None:
                    self.seconds += time.perf_counter() - started
        except ValueError as error:
            raise self._unusable(error) from error

    def _refuse_without_direction(self, passages: Tensor, rows: range) -> None:
        """Name passages of length 0, which have no cosine."""
        if self._similarity != "cosine":
            return
        if places := (passages == 0).all(dim=1).nonzero().flatten().tolist():
            named = self._test.corpus.ids_of([rows.start + place for place in places[:5]])
            raise EncoderError(
                f"'{self._test.name}' has passages whose embedding has length 0, and so no cosine: "
                f"{', '.join(named)}; texts without a known token have none",
                hint="--set evaluation.similarity=dot, or data without those passages",
            )

    def _unusable(self, error: ValueError) -> EncoderError:
        return EncoderError(
            f"the model cannot be evaluated on '{self._test.name}': {error}",
            hint="if it was trained here, its training_log.jsonl says since when",
        )

    def _passages(self, rows: range, advance: Callable[[int], None]) -> Tensor:
        """``(n, d)`` embeddings of a block, from the cache where it is there."""
        if self._cache is not None and (kept := self._cache.read(rows)) is not None:
            advance(len(rows))
            return kept.to(self._queries.device)
        texts = self._test.corpus.texts[rows.start : rows.stop]
        found = self._encoded(texts, "document", advance)
        if self._config.embeddings == "fp16":
            found = found.half().float()
        if self._cache is not None:
            self._cache.write(rows, found)
        return found

    def _encoded(self, texts: Sequence[str], side: Side, advance: Callable[[int], None]) -> Tensor:
        return encode_block(
            self._model,
            texts,
            side=side,
            batch_size=self._config.batch_size,
            precision=self._config.precision,
            advance=advance,
        )


def _hits(rankers: Mapping[str, ExactTopK]) -> dict[str, Hits]:
    return {name: ranker.hits() for name, ranker in rankers.items()}


def similarity_of(model: SentenceTransformer, config: EvaluationConfig) -> Similarity:
    """What the model's embeddings are compared by.

    Raises:
        EncoderError: by something that no exact search is written for.
    """
    if config.similarity == "scaled_euclidean":
        return "euclidean"
    return own_similarity(model) if config.similarity == "model" else config.similarity


def own_similarity(
    model: SentenceTransformer,
    *,
    name: str = "the model",
    hint: str = "--set evaluation.similarity=cosine",
) -> Similarity:
    """What a model says that its embeddings are compared by.

    Raises:
        EncoderError: as `similarity_of`, with this hint.
    """
    similarity: Similarity = model.similarity_fn_name
    if similarity not in get_args(Similarity):
        known = ", ".join(get_args(Similarity))
        raise EncoderError(f"{name} compares by '{similarity}', none of {known}", hint=hint)
    return similarity


def bytes_per_passage(model: SentenceTransformer, config: EvaluationConfig) -> dict[str, int]:
    """Of a vector in an index, by form of the embeddings."""
    width = model.get_embedding_dimension()
    similarity, sample = similarity_of(model, config), torch.zeros(2, width)
    smaller = {n: parse_variant(n).fit(sample, similarity=similarity) for n in config.variants}
    return {"float32": 4 * width} | {n: codec.bytes_per_passage for n, codec in smaller.items()}


def max_tokens(model: SentenceTransformer) -> int | None:
    """Tokens that are read of a text; None where all are."""
    length = getattr(model, "max_seq_length", None)
    return int(length) if length is not None and math.isfinite(length) else None


def named_hits(hits: Hits, queries: Iterable[str]) -> Iterator[QueryHits]:
    """Hits with the ids of their queries."""
    for name, rows, scores in zip(queries, hits.rows, hits.scores, strict=True):
        yield QueryHits(name, rows, scores)


def rank_forms(
    model: SentenceTransformer, test: JudgedSet, config: EvaluationConfig, *, progress: Progress
) -> dict[str, Ranking]:
    """Exact rankings by ``PLAIN`` and the smaller forms; a query's namesake passage is left out."""
    found = Search(model, test, config, progress=progress).run()
    return {
        form: ranking_of(named_hits(hits, test.queries), test.corpus, depth=config.depth)
        for form, hits in found.items()
    }
