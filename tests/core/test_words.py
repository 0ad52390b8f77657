"""Words of all scripts, against lists that were written by hand."""

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragcun_cli.core.words import search_words, words

BY_HAND = {
    "Hindi": ("में हिन्दी, और कि का।", ["में", "हिन्दी", "और", "कि", "का"]),
    "Bengali": ("আমার সোনার বাংলা!", ["আমার", "সোনার", "বাংলা"]),
    "Tamil": ("தமிழ் மொழி ஒரு", ["தமிழ்", "மொழி", "ஒரு"]),
    "Sinhala with a joiner": ("ශ්\u200dරී ලංකාව", ["ශ්රී", "ලංකාව"]),
    "Persian with a non-joiner": ("می\u200cخواهم", ["میخواهم"]),
    "Arabic with vowels": ("كِتَابٌ جديد", ["كِتَابٌ", "جديد"]),
    "Hebrew with vowels": ("שָׁלוֹם", ["שָׁלוֹם"]),
    "Thai": ("กินข้าว แมว", ["กิน", "นข้", "ข้า", "าว", "แม", "มว"]),
    "Thai of one letter, and digits": ("ณ ปี ๒๕๖๓", ["ณ", "ปี", "๒๕๖๓"]),
    "Lao": ("ກິນເຂົ້າ", ["ກິນ", "ນເ", "ເຂົ້", "ຂົ້າ"]),
    "Khmer": ("ខ្មែរ", ["ខ្មែ", "មែរ"]),
    "Myanmar": ("မြန်မာ", ["မြန်", "န်မာ"]),
    "Chinese": ("我爱北京。上海", ["我爱", "爱北", "北京", "上海"]),
    "Chinese of one character": ("水", ["水"]),
    "Chinese with a zero": ("二〇二〇年", ["二〇", "〇二", "二〇", "〇年"]),
    "Chinese beside Latin": ("用iPhone手机 第3章", ["用", "iphone", "手机", "第", "章"]),
    "Japanese": ("東京タワー・みる", ["東京", "京タ", "タワ", "ワー", "みる"]),
    "Japanese, decomposed": (unicodedata.normalize("NFD", "がぎ"), ["がぎ"]),
    "half-width kana": ("ｱｲｳ", ["ｱｲ", "ｲｳ"]),
    "astral Han": ("𠀀𠀁x", ["𠀀𠀁"]),
    "Korean": ("한국어 말 나라", ["한국어", "나라"]),
    "Korean, decomposed": (unicodedata.normalize("NFD", "한국어 나라"), ["한국어", "나라"]),
    "French, decomposed": (unicodedata.normalize("NFD", "Café à Évry"), ["café", "évry"]),
    "Yoruba": ("ọ̀rọ̀ ẹ̀", ["ọ̀rọ̀", "ẹ̀"]),
    "Vietnamese": (unicodedata.normalize("NFD", "tiếng Việt"), ["tiếng", "việt"]),
    "Turkish": ("TÜBİTAK, İstanbul", ["tübitak", "istanbul"]),
    "English": ("It's a well-known x_1, 3 of 10.", ["it", "well", "known", "x_1", "of", "10"]),
    "English with emoji": ("love ❤️ it 👩‍💻 1️⃣ ok", ["love", "it", "ok"]),
    "a mark that stands alone": ("e ́tude", ["tude"]),
    "nothing": (" ?! ", []),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BY_HAND.values(), ids=list(BY_HAND))
def test_words_are_those_that_were_written_by_hand(text, expected):
    expected = [unicodedata.normalize("NFC", word) for word in expected]
    assert search_words(text) == expected
    assert search_words(unicodedata.normalize("NFD", text)) == expected


@pytest.mark.parametrize(("text", "expected"), BY_HAND.values(), ids=list(BY_HAND))
def test_the_words_of_a_comparison_are_those_of_a_search_and_single_letters(text, expected):
    found = words(text).split(" ") if words(text) else []
    left = iter(found)
    assert all(unicodedata.normalize("NFC", word) in left for word in expected)
    assert words(unicodedata.normalize("NFD", text)) == words(text)


UNSPACED = (
    *("THAI", "LAO ", "KHMER", "MYANMAR", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "CJK"),
    *("IDEOGRAPHIC ITERATION", "IDEOGRAPHIC CLOSING", "IDEOGRAPHIC NUMBER", "HENTAIGANA"),
    *("VERTICAL KANA", "VERTICAL IDEOGRAPHIC", "MASU MARK"),
)


def plainly(text):
    """One character at a time, by the names of Unicode."""
    found, run, run_is_cut = [], [], False

    def close():
        if run_is_cut:
            found.extend(map("".join, pairwise(run)))
            found.extend(run if len(run) == 1 else [])
        elif len("".join(run)) > 1:
            found.append("".join(run))
        run.clear()

    for one in unicodedata.normalize("NFC", text.replace("\u0130", "i").lower()):
        kind, name = unicodedata.category(one), unicodedata.name(one, "")
        if one in "\u200c\u200d" or name.startswith("VARIATION SELECTOR-"):
            continue
        if kind in ("Mn", "Mc"):
            if run:
                run[-1] += one
        elif one.isalnum() or one == "_":
            is_cut = kind != "Nd" and name.startswith(UNSPACED)
            if is_cut != run_is_cut:
                close()
            run_is_cut = is_cut
            run.append(one)
        else:
            close()
    close()
    return found


SCRIPTS = "aZ_1 .éß़हिकেলাกินข้າເຂကြ်ខ្ែ東京かガーｱ한ᄒ́̀\u200d\u200cøЖйא ָ"
TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(SCRIPTS)))


@given(TEXTS)
def test_words_are_those_found_one_character_at_a_time(text):
    assert search_words(text) == plainly(text)


@given(st.text(st.characters(max_codepoint=0x2FF, exclude_characters="\u0130\u01f0")))
def test_texts_of_latin_letters_are_taken_apart_as_ever(text):
    assert search_words(text) == re.findall(r"\b\w\w+\b", text.lower())
    assert words(text) == re.sub(r"\W+", " ", text.casefold()).strip()


def test_every_character_is_taken_as_unicode_has_it():
    for code in [*range(0xD800), *range(0xE000, 0x323B0)]:
        one = chr(code)
        kind, name = unicodedata.category(one), unicodedata.name(one, "")
        if kind == "Cn" or "COMPATIBILITY" in name or one != unicodedata.normalize("NFC", one):
            continue
        text = f"xy{one}zx"
        found = search_words(text)
        assert found == plainly(text), (hex(code), name)


def test_texts_that_differ_in_their_marks_differ_in_their_words():
    assert words("कि") != words("का")
    assert words("Café") == words(unicodedata.normalize("NFD", "CAFÉ!"))
    assert words("東京。タワー") == words("東京 タワー")
    assert len(words("東京タワー").split()) == 4
