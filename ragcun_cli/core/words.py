"""Which words a text has, whatever its script.

A word keeps its marks (of Unicode's categories Mn and Mc, after NFC): the vowel signs of Hindi, the
accents of Latin. Runs of scripts that part no words by spaces are cut into pairs of letters that
stand side by side, each with its marks; a letter that stands alone is a word.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby, pairwise

_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai, Lao, Myanmar, Khmer
    "\u3005-\u3007\u3031-\u3035\u303b-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"  # kana
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Blocks of scripts without spaces; Korean has them."""


def _marks() -> str:
    codes = [n for n in range(0x300, 0x20000) if unicodedata.category(chr(n)) in ("Mn", "Mc")]
    groups = groupby(enumerate(codes), lambda pair: pair[1] - pair[0])
    ranges = [[code for _, code in group] for _, group in groups]
    return "".join(f"{chr(found[0])}-{chr(found[-1])}" for found in ranges)


_MARKS = _marks()
_LETTER = rf"(?=[^\W\d])[{_SPACELESS}][{_MARKS}]*"
_OTHER = rf"(?:[^\W{_SPACELESS}]|\d)"
"""Of other scripts, or a digit."""

_LETTERS = re.compile(_LETTER)
_WORDS = re.compile(rf"((?:{_LETTER})+)|{_OTHER}(?:{_OTHER}|[{_MARKS}])*")
_UNITS = re.compile(rf"[{_SPACELESS}][{_MARKS}]*|[^\s{_SPACELESS}]+")
_PLAIN_WORDS = re.compile(r"\b\w\w+\b")
_NOT_PLAIN = re.compile("[\u0300-\u036f\u0483-\u1cff\u1dc0-\u1dff\u20d0-\u20ff\u2cef-\U0010ffff]")
"""Where a mark or a script without spaces may be: all but Latin, Greek, Cyrillic and symbols."""

_UNSEEN = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
"""Joiners and variation selectors: how a letter is drawn, not which one it is."""


def search_words(text: str) -> list[str]:
    """The words of two letters or more in small letters, and pairs of letters, in their order.

    Of a text without marks and of scripts with spaces those of ``bm25s.tokenize``.
    """
    text = _settled(text.lower())
    if _is_plain(text):
        return _PLAIN_WORDS.findall(text)
    return [word for word, is_cut in _cut(text) if is_cut or len(word) > 1]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words lie that a length is counted in: start and end of each.

    What white space parts, and each letter, with its marks, of scripts that part no words by it.
    """
    return [match.span() for match in _UNITS.finditer(text)]


def words(text: str) -> str:
    """A text without case, punctuation and spacing: texts with the same words are the same."""
    text = _settled(text.casefold())
    if _is_plain(text):
        return re.sub(r"\W+", " ", text).strip()
    return " ".join(word for word, _ in _cut(text))


def _settled(text: str) -> str:
    """In NFC, without what is not seen; the small letter that Python makes of Turkish I is an i."""
    if text.isascii():
        return text
    return _UNSEEN.sub("", unicodedata.normalize("NFC", text)).replace("i\u0307", "i")


def _is_plain(text: str) -> bool:
    return text.isascii() or _NOT_PLAIN.search(text) is None


def _cut(text: str) -> list[tuple[str, bool]]:
    """Words of one letter too, and whether each was cut out of a run without spaces."""
    found: list[tuple[str, bool]] = []
    for match in _WORDS.finditer(text):
        letters = _LETTERS.findall(match[1] or "")
        pairs = ["".join(pair) for pair in pairwise(letters)] or letters or [match[0]]
        found += ((word, bool(letters)) for word in pairs)
    return found
