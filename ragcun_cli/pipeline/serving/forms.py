"""What servers make of a model: the same texts by other modules, prompts, lengths or poolings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor

from ragcun_cli.pipeline.encoders.encode import Side, encode_block, own_prompt
from ragcun_cli.pipeline.search.dense import max_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LENGTHS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048)
"""Tokens that servers are set to cut texts at."""

HEADLESS = "base without head"
"""What text-embeddings-inference 1.9 serves of a model whose modules it does not know."""

_POOLINGS = ("mean", "cls", "max", "lasttoken")
_OTHER: dict[Side, Side] = {"query": "document", "document": "query"}


@dataclass(frozen=True)
class ServedForm:
    """How a model may be served."""

    kept: tuple[int, ...]
    """Places of the modules after the pooling that run."""
    pooling: str | None = None
    """Another than its own."""
    prompt: str | None = None
    """Before each text, instead of its own."""
    causes: tuple[str, ...] = ()
    """What of this is not as it should be, in words."""


class LocalModel:
    """A model that is here, in its own form and in others."""

    def __init__(self, model: SentenceTransformer) -> None:
        """Share its modules."""
        self.model = model
        pools = [place for place, part in enumerate(model) if isinstance(part, Pooling)]
        self._first = pools[0] + 1 if pools else 1
        self._pooling: Pooling | None = model[pools[0]] if pools else None
        self.own = ServedForm(tuple(range(self._first, len(model))))
        self.length = max_tokens(model)

    def sides(self) -> list[Side]:
        """Those of texts that the model treats unlike; one where it makes no difference."""
        asks = own_prompt(self.model, "query") != own_prompt(self.model, "document")
        return ["query", "document"] if asks or isinstance(self.model[0], Router) else ["document"]

    def prompt(self, side: Side) -> str:
        """Its own before texts of a side; empty where it has none."""
        return own_prompt(self.model, side) or ""

    def tokens(self, texts: Sequence[str], side: Side) -> list[int]:
        """Of each text with its prompt, uncut; its words where the model has no tokenizer."""
        tokenizer: PreTrainedTokenizerBase | None = getattr(self.model, "tokenizer", None)
        whole = [self.prompt(side) + text for text in texts]
        if not callable(tokenizer):
            return [len(text.split()) for text in whole]
        return [len(row) for row in tokenizer(whole, truncation=False, verbose=False)["input_ids"]]

    def lengths(self, longest: int) -> list[int]:
        """At which a server may cut texts of which the longest has so many tokens."""
        positions = getattr(getattr(self.model[0], "config", None), "max_position_embeddings", None)
        most = positions if isinstance(positions, int) else longest
        own = self.length
        if own is None:
            return []
        found = sorted({*LENGTHS, own - 2, own + 2, most} - {own})
        return [one for one in found if 3 < one <= most and one < max(longest, own)]

    def forms(self, side: Side) -> Iterator[ServedForm]:
        """The own one first; each as it would be with one or several things gone wrong."""
        own, other = self.prompt(side), self.prompt(_OTHER[side])
        prompts = {own: "", "": "prompt missing", own + own: "prompt put twice"}
        prompts |= {other: f"prompt of the other side ({_OTHER[side]})"}
        prompts |= {own: ""}
        mode = self._pooling.pooling_mode if self._pooling else None
        poolings: dict[str | None, str] = {None: ""}
        if self._pooling is not None:
            poolings |= {
                one: f"pooling {one} instead of {mode}" for one in _POOLINGS if one != mode
            }
        for (prompt, wrong), (pooling, unlike) in product(prompts.items(), poolings.items()):
            for kept in self._runnable():
                said = (*self._lacking(kept), unlike, wrong)
                yield ServedForm(kept, pooling, prompt, tuple(filter(None, said)))

    def _runnable(self) -> Iterator[tuple[int, ...]]:
        """Modules after the pooling, without some of them, as far as their widths go together."""
        places = self.own.kept
        for count in range(len(places), -1, -1):
            for kept in combinations(places, count):
                width = self._pooling.get_embedding_dimension() if self._pooling else None
                fits = True
                for part in (self.model[place] for place in kept):
                    if isinstance(part, Dense):
                        fits &= width in (None, part.in_features)
                        width = part.out_features
                if fits:
                    yield kept

    def _lacking(self, kept: Sequence[int]) -> list[str]:
        gone = [place for place in self.own.kept if place not in kept]
        dense = [place for place in self.own.kept if isinstance(self.model[place], Dense)]
        lost = [str(number) for number, place in enumerate(dense, 1) if place in gone]
        causes = []
        if lost:
            whole = len(lost) == len(dense)
            part = f"layer {', '.join(lost)} of the head left out"
            causes.append(HEADLESS if whole else part)
        for place in gone:
            part = self.model[place]
            if isinstance(part, Normalize):
                last = place == len(self.model) - 1
                causes.append("not normalised" if last else "the base not normalised")
            elif not isinstance(part, Dense):
                causes.append(f"{type(part).__name__} left out")
        return causes

    def embed(
        self,
        form: ServedForm,
        texts: Sequence[str],
        side: Side,
        *,
        length: int | None = None,
        precision: str = "fp32",
    ) -> Tensor:
        """``(n, d)`` fp32 vectors on the CPU that a form of the model gives texts.

        Args:
            form: of the model.
            texts: without prompts.
            side: whose they are.
            length: tokens that are read of each; None for its own.
            precision: of autocast.

        Raises:
            EncoderError: the model fails on them.
        """
        parts = list(self.model)[: self._first]
        if form.pooling is not None and self._pooling is not None:
            width, whole = self._pooling.embedding_dimension, self._pooling.include_prompt
            parts[-1] = Pooling(width, form.pooling, include_prompt=whole)
        parts += [self.model[place] for place in form.kept]
        before = self.prompt(side) if form.prompt is None else form.prompt
        prompts = {"query": "", "document": ""} | {side: before}
        device = str(self.model.device)
        served = SentenceTransformer(modules=parts, device=device, prompts=prompts)
        served.truncate_dim = self.model.truncate_dim
        if length is not None:
            served.max_seq_length = length
        try:
            how: Any = {"batch_size": 16, "precision": precision}
            return encode_block(served, texts, side=side, **how).cpu()
        finally:
            if length is not None:
                served.max_seq_length = self.length
