"""What servers make of a model: the same texts by other modules, prompts, lengths or poolings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router
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
        if (own := self.length) is None:
            return []
        positions = getattr(getattr(self.model[0], "config", None), "max_position_embeddings", None)
        most = positions if isinstance(positions, int) else longest
        found = {*LENGTHS, own - 2, own + 2, most} - {own}
        return sorted(one for one in found if 3 < one <= most and one < max(longest, own))

    def forms(self, side: Side) -> Iterator[ServedForm]:
        """The own one among them; each as it would be with one or several things gone wrong."""
        own, other = self.prompt(side), self.prompt(_OTHER[side])
        prompts = {
            other: f"prompt of the other side ({_OTHER[side]})",
            own + own: "prompt put twice",
            "": "prompt missing",
            own: "",  # of equal ones the last
        }
        mode = self._pooling.pooling_mode if self._pooling else None
        unlike = [one for one in _POOLINGS if mode not in (None, one)]
        poolings = {None: ""} | {one: f"pooling {one} instead of {mode}" for one in unlike}
        for before, pooled, (kept, lacking) in product(
            prompts.items(), poolings.items(), self._modules()
        ):
            causes = filter(None, (*lacking, pooled[1], before[1]))
            yield ServedForm(kept, pooled[0], before[0], tuple(causes))

    def _modules(self) -> Iterator[tuple[tuple[int, ...], list[str]]]:
        """Modules after the pooling without the head or a Normalize, and what that is in words."""
        places = self.own.kept
        norms = [place for place in places if isinstance(self.model[place], Normalize)]
        head = [place for place in places if place not in norms]
        for layers, count in product([head, []] if head else [[]], range(len(norms) + 1)):
            for kept in combinations(norms, count):
                lacking = [] if layers == head else [HEADLESS]
                for place in norms:
                    if place not in kept:
                        last = place == places[-1]
                        lacking.append("not normalised" if last else "the base not normalised")
                yield tuple(sorted([*layers, *kept])), lacking

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
