"""The terms that BM25 knows texts by."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
import Stemmer
from bm25s import stopwords

from ragcun_cli.core.search.bm25 import Ints
from ragcun_cli.core.words import search_words
from ragcun_cli.spec.mining_config import MiningConfig

_KNOWN_WORDS = 2**20  # forgotten when there are more; about 150 MB


class Terms:
    """What texts are made of: words of two letters or more, in small letters, stemmed.

    The same as ``bm25s.tokenize`` but where that breaks words at their marks, or has none as there
    are no spaces (`search_words`), with numbers that last over many calls.
    """

    def __init__(self, config: MiningConfig, known: Sequence[str] = ()) -> None:
        """Those of an index, in the order of their numbers; none for a new one."""
        self.numbers = {term: number for number, term in enumerate(known)}
        self._stopwords = frozenset(_stop_words(config.stopwords))
        self._stem: Callable[[str], str] = str
        if config.stemmer != "none":
            self._stem = Stemmer.Stemmer(config.stemmer).stemWord
        self._words = _Words(self._number)

    def _number(self, word: str) -> int:
        if word in self._stopwords:
            return -1
        return self.numbers.setdefault(self._stem(word), len(self.numbers))

    def add(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """The terms of all texts in one array, and how many each text has; new terms are numbered.

        Stop words are no terms.
        """
        terms, ends = array("i"), [0]
        for text in texts:
            terms.extend(map(self._words.__getitem__, search_words(text)))
            ends.append(len(terms))
        if len(self._words) > _KNOWN_WORDS:
            self._words.clear()
        found = np.frombuffer(terms, np.int32) if terms else np.zeros(0, np.int32)
        kept = found >= 0
        before = np.concatenate([[0], np.cumsum(kept)])[ends]
        return found[kept], np.diff(before).astype(np.int32)

    def of(self, text: str) -> Ints:
        """Those of a query that the index knows, in its order and as often as they come."""
        words = (word for word in search_words(text) if word not in self._stopwords)
        numbers = (self.numbers.get(self._stem(word), -1) for word in words)
        return np.array([number for number in numbers if number >= 0], np.int32)


def _stop_words(language: str) -> Sequence[str]:
    name = "EN" if language == "english" else language.upper()
    found: Sequence[str] = () if language == "none" else getattr(stopwords, f"STOPWORDS_{name}")
    return found


class _Words(dict[str, int]):
    """Numbers of words by word, found out once."""

    def __init__(self, number: Callable[[str], int]) -> None:
        self._number = number

    def __missing__(self, word: str) -> int:
        self[word] = number = self._number(word)
        return number
