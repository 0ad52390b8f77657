"""A look at a model before it is used: what its embeddings depend on, and what its words are."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor

from ragcun_cli.pipeline.machine.progress import Advance
from ragcun_cli.spec.errors import EncoderError

_ROUNDING = 1e-5
"""Of the length of an embedding. Rounding in fp32 moves it by 1e-6 (MiniLM, mpnet)."""

_UNSTEADY = 5e-3
"""Of the distance between texts. Rounding in fp32 moves one by 1e-6, in bf16 by 5e-3, and positions
that are counted from padding by 2e-2 and more."""

_WORDS = 16
_NO_WORDS = dict.fromkeys(map(ord, string.digits + string.punctuation), " ")


def refuse_unsteady(
    name: object,
    tokenizer: Any,  # noqa: ANN401
    embed: Callable[[Sequence[str]], Tensor],
) -> None:
    """Look at what a model makes of a few words of its own vocabulary, so of any language.

    Raises:
        EncoderError: all are one embedding, or one depends on the texts of its batch.
    """
    if not hasattr(tokenizer, "decode"):
        return
    size = len(tokenizer.get_vocab())
    words = [tokenizer.decode([size * part // _WORDS]) for part in range(_WORDS)]
    found, (alone,) = embed([*words, " ".join(words)]), embed([words[_WORDS // 2]])
    beside = found[_WORDS // 2]
    spread, length = (found - beside).norm(dim=1).max(), beside.norm()
    if spread <= _ROUNDING * length:
        unknown = unknown_share(tokenizer, words) > MOSTLY
        reason = ": its tokenizer does not know the words of its own vocabulary" if unknown else ""
        raise EncoderError(f"{name} gives all texts one embedding{reason}", hint="another model")
    if (beside - alone).norm() > max(_UNSTEADY * spread, _ROUNDING * length):
        what, hint = f"{name} gives a text another embedding beside a longer text", None
        if getattr(tokenizer, "padding_side", "") == "left":
            what += ": its tokenizer pads on the left, and it counts positions from there"
            hint = '"padding_side": "right" in its tokenizer_config.json'
        raise EncoderError(what, hint=hint)


MANY, MOSTLY = 0.02, 0.9
"""Shares of unknown tokens: above the first worth saying (English sets and encoders have 0.002 at
most), above the second a tokenizer is of no use for the texts."""

SAMPLE_TEXTS = 1000
"""Whose tokens are looked at."""


def unknown_share(tokenizer: Any, texts: Sequence[str]) -> float:  # noqa: ANN401
    """Share of the tokens of words that stand for what a tokenizer does not know, in [0, 1].

    ASCII's digits and punctuation, which most tokenizers know, are no words. 1 where it leaves
    nothing of the texts, 0 where it can write everything (bytes).
    """
    words = [text.translate(_NO_WORDS) for text in texts]
    if isinstance(tokenizer, Tokenizer):
        unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")
        rows = [row.ids for row in tokenizer.encode_batch(words, add_special_tokens=False)]
    else:
        if (unknown := getattr(tokenizer, "unk_token_id", None)) is None:
            return 0.0
        rows = tokenizer(words, add_special_tokens=False)["input_ids"]
    known = [token != unknown for row in rows for token in row]
    return known.count(False) / len(known) if known else 1.0


def cut_count(model: SentenceTransformer, texts: Iterable[str], *, advance: Advance) -> int:
    """How many texts have more tokens than a model reads; 0 of one that reads all.

    Those that a tokenizer adds at both ends count.
    """
    longest = getattr(model, "max_seq_length", None)
    if longest is None or not callable(model.tokenizer):
        return 0
    found, rest = 0, iter(texts)
    while some := list(islice(rest, SAMPLE_TEXTS)):
        rows = model.tokenizer(some, truncation=False, verbose=False)["input_ids"]
        found += sum(len(row) > longest for row in rows)
        advance(len(some))
    return found
