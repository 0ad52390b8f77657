import csv
import gzip
import io
import json
import os
import random
import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from ragcun_cli.pipeline.data.bring.user_tables import store_table
from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.spec.errors import DataError

SET = {
    "corpus.jsonl": '{"_id": "d1", "title": "Salt", "text": "rivers carry salt"}\n'
    '{"_id": "d2", "title": "", "text": "the moon turns the tide"}\n'
    '{"_id": "d3", "text": "Öl schwimmt"}\n',
    "queries.jsonl": '{"_id": "q1", "text": "why is the sea salty?"}\n'
    '{"_id": "q2", "text": "wohin mit dem Öl?"}\n',
    "qrels/train.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t0\n",
    "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq2\td3\t1\n",
}
SET = {name: text.encode() for name, text in SET.items()}
TABLES = {
    "pairs.jsonl": '{"query": "why salty?", "positive": "rivers", "negatives": ["the moon", ""]}\n'
    '{"query": "wohin?", "positive": ["Öl", "oben"], "score": 0.5}\n'
    '{"query": "why salty?", "positive": "rivers"}\n',
    "pairs.csv": "query,positive,negative_1,negative_2\n"
    'why salty?,"rivers, mostly",the moon,\n'
    '"wohin mit ""Öl""?","oben\n\nunten",,tides\n'
    "why salty?,rocks,,\n",
    "pairs.tsv": "anchor\tpositive\tnegatives\n"
    'why salty?\trivers\t["the moon"]\n'
    "wohin?\tÖl\ttides\n"
    'what now?\t"a" quote\t\n',
}
TABLES = {name: text.encode() for name, text in TABLES.items()}
CORPUS, QUERIES, TRAIN, TEST = SET


def put(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def line(text):
    """Appended to a file."""
    return lambda content: content + text.encode() + b"\n"


def recoded(encoding):
    return lambda content: content.decode().encode(encoding)


def replaced(old, new):
    def change(content):
        assert old in content
        return content.replace(old, new)

    return change


def gone(content):
    return b""


def folder_instead(content):
    return None


def truncated(content):
    return gzip.compress(content)[:-12]


NESTED = "[" * 100_000
NOT_JSON = "not JSON that can be read: "

REFUSED = {
    "bad JSON": (CORPUS, line('{"_id": "d4", "text": '), ":4: not JSON: Expecting value at"),
    "JSON cut short": (QUERIES, lambda content: content[:-9], ":2: not JSON: Unterminated string"),
    "two objects in a line": (CORPUS, replaced(b"}\n{", b"}{"), ":1: not JSON: Extra data at"),
    "no object": (QUERIES, line('"q3"'), ":3: expected a JSON object, got '\"q3\"'"),
    "no id of a passage": (CORPUS, line('{"text": "x"}'), ':4: expected an "_id" with a text'),
    "no id of a query": (QUERIES, line('{"text": "x"}'), ':3: expected an "_id" with a text'),
    "no text": (CORPUS, line('{"_id": "d4"}'), ':4: no "text"'),
    "a key twice": (CORPUS, line('{"_id": "a", "_id": "b", "text": ""}'), f":4: {NOT_JSON}a key"),
    "a key twice and a tab": (
        QUERIES,
        line('{"_id": "a	", "_id": "b"}'),
        f":3: {NOT_JSON}a key",
    ),
    "a passage twice, other words": (
        CORPUS,
        line('{"_id": "d1", "text": "other"}'),
        ":4: passage id 'd1' stands in the file twice, with other words in line 1",
    ),
    "a query twice, other words": (
        QUERIES,
        line('{"_id": "q1", "text": "other"}'),
        ":3: query id 'q1' stands in the file twice",
    ),
    "a query without text": (QUERIES, line('{"_id": "q3", "text": " "}'), ":3: query 'q3' has no"),
    "a judged passage that is not there": (
        TRAIN,
        line("q1\td9\t1"),
        ":4: corpus id 'd9' is not in corpus.jsonl",
    ),
    "a judged query that is not there": (
        TEST,
        line("q9\td1\t1"),
        ":3: query id 'q9' is not in queries.jsonl",
    ),
    "a pair judged in two ways": (TRAIN, line("q1\td1\t1"), ":4: 'q1' and 'd1' are judged twice"),
    "a judgement cut short": (TEST, lambda content: content[:-3], ":2: expected query-id, "),
    "judgements parted by commas": (TEST, replaced(b"\t", b","), ":1: expected query-id, "),
    "judgements in TREC's form": (TRAIN, line("q2\t0\td2\t1"), ":4: expected query-id, "),
    "a header in the middle": (TRAIN, line("query-id\tcorpus-id\tscore"), ":4: expected query-id"),
    "latin-1 passages": (CORPUS, recoded("latin-1"), ":3: not UTF-8: invalid continuation byte"),
    "latin-1 queries": (QUERIES, recoded("latin-1"), ":2: not UTF-8: invalid continuation byte"),
    "latin-1 judgements": (TRAIN, lambda content: content + b"\xd6\td1\t1\n", ":4: not UTF-8: "),
    "UTF-16 passages": (CORPUS, recoded("utf-16"), ":1: not UTF-8: it begins as UTF-16 does"),
    "UTF-16 judgements": (TEST, recoded("utf-16"), ":1: not UTF-8: it begins as UTF-16 does"),
    "UTF-16 without a mark": (QUERIES, recoded("utf-16-be"), ":1: not JSON: "),
    "an id with a space": (CORPUS, line('{"_id": "d 4", "text": "x"}'), ":4: id 'd 4' has white"),
    "an id with a tab": (QUERIES, line(r'{"_id": "q\t3", "text": "x"}'), r":3: id 'q\t3' has"),
    "an id with a no-break space": (
        CORPUS,
        line('{"_id": "d\xa04", "text": "x"}'),
        r":4: id 'd\xa04' has white space",
    ),
    "an id with a thin space": (
        QUERIES,
        line('{"_id": "q\u2009", "text": "x"}'),
        r":3: id 'q\u2009' has white space",
    ),
    "half an id": (CORPUS, line(r'{"_id": "\ud83d", "text": "x"}'), r":4: id '\ud83d' has"),
    "an empty id": (QUERIES, line('{"_id": "", "text": "x"}'), ':3: expected an "_id" with a'),
    "an id that is a fraction": (CORPUS, line('{"_id": 1.5, "text": "x"}'), ":4: expected an"),
    "an id that is NaN": (CORPUS, line('{"_id": NaN, "text": "x"}'), ":4: expected an"),
    "a text that is NaN": (CORPUS, line('{"_id": "d4", "text": NaN}'), ':4: "text" is not a text'),
    "a text that is a list": (QUERIES, line('{"_id": "q3", "text": []}'), ':3: "text" is not a'),
    "a title that is a number": (
        CORPUS,
        line('{"_id": "a", "title": 1, "text": ""}'),
        ':4: "title',
    ),
    "deeply nested JSON": (CORPUS, line(NESTED), f":4: {NOT_JSON}"),
    "deeply nested JSON inside": (QUERIES, line(f'{{"_id": {NESTED}'), f":3: {NOT_JSON}"),
    "a number of 10,000 digits": (CORPUS, line(f'{{"_id": {"1" * 10_000}}}'), f":4: {NOT_JSON}"),
    "a grade of 10,000 digits": (TRAIN, line("q2\td2\t" + "1" * 10_000), ":4: expected query-id"),
    "a grade that is NaN": (TRAIN, line("q2\td2\tNaN"), ":4: expected query-id"),
    "truncated gzip of passages": (CORPUS, truncated, " is a damaged gzip file: Compressed file"),
    "truncated gzip of queries": (QUERIES, truncated, " is a damaged gzip file: Compressed file"),
    "truncated gzip of judgements": (TEST, truncated, " is a damaged gzip file: Compressed file"),
    "no more than gzip's mark": (CORPUS, lambda content: b"\x1f\x8b", " is a damaged gzip file"),
    "an empty corpus": (CORPUS, gone, ": the corpus is empty"),
    "blank lines for passages": (CORPUS, lambda content: b"\n \r\n", ": the corpus is empty"),
    "no queries": (QUERIES, gone, ": there are no queries"),
    "no judgements": (TEST, gone, ": no judgements"),
    "a header and no judgements": (TRAIN, lambda content: content[:25], ": no judgements"),
    "a folder for passages": (CORPUS, folder_instead, " is no file"),
    "a folder for queries": (QUERIES, folder_instead, " is no file"),
    "a folder for judgements": (TRAIN, folder_instead, " cannot be read: Is a directory"),
    "old Macintosh passages": (CORPUS, replaced(b"\n", b"\r"), ":1: not JSON: Extra data at"),
    "old Macintosh queries": (QUERIES, replaced(b"\n", b"\r"), ":1: not JSON: Extra data at"),
    "old Macintosh judgements": (TRAIN, replaced(b"\n", b"\r"), ":1: expected query-id"),
    "a control character instead of a line": (CORPUS, line("\x00"), ":4: not JSON: "),
    "a second byte order mark": (QUERIES, lambda content: b"\xef\xbb\xbf" * 2 + content, ":1: not"),
    "a mark within judgements": (TRAIN, line("\ufeffq1\td2\t1"), ":4: query id '\ufeffq1' is not"),
}


@pytest.mark.parametrize(("name", "change", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_would_be_guessed_at_is_refused_by_file_and_line(tmp_path, name, change, message):
    source = tmp_path / "mine"
    put(source, SET)
    content = change(SET[name])
    (source / name).unlink()
    if content is None:
        (source / name).mkdir()
    else:
        (source / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        storing.store(source, tmp_path / "draft")
    assert str(caught.value).startswith(f"{source / name}{message}")
    assert len(str(caught.value)) < 400


def renamed(name):
    """In the place of a file, the same with another name."""
    return lambda content: {name: content}


DUPLICATE = "a passage that stands twice with the same words, kept once"
ESCAPED = "control characters that JSON wants escaped, kept as they are"
PACKED = "packed by gzip, read all the same"
PLAIN = "not packed, in spite of its name, read all the same"
NUMBER = "an id is a number, read as text"
MARK = "begins with a byte order mark, left out"
WINDOWS = "lines end as on Windows"
BLANK = "blank lines left out"
HALF = "a text holds half a character (a lone surrogate), replaced by U+FFFD"
HEADLESS = "has no header; its first line was read as a judgement"
MORE = 'holds more than "_id", "title" and "text", left out'
TWICE_GIVEN = "not read, as it is there without .gz too"
OTHER_NAME = "not read, as BEIR has no file of that name"


def with_twin(name):
    return lambda content: {name: content, f"{name}.gz": gzip.compress(content)}


def packed(name):
    return lambda content: {name: gzip.compress(content)}


ACCEPTED = {
    "a passage twice": (
        CORPUS,
        line('{"_id": "d1", "text": "rivers carry salt", "title": "Salt"}'),
        {},
        f"corpus.jsonl: {DUPLICATE}",
    ),
    "a query twice": (
        QUERIES,
        lambda content: content * 2,
        {},
        "queries.jsonl: a query that stands twice with the same words, kept once (2 times)",
    ),
    "a judgement twice": (
        TRAIN,
        line("q1\td1\t2"),
        {},
        "train.tsv: a judgement that stands twice, kept once",
    ),
    "an empty passage": (
        CORPUS,
        line('{"_id": "d4", "text": ""}\n{"_id": "d5", "title": " ", "text": "\\n"}'),
        {"passages": 5, "empty_passages": 2},
        "corpus.jsonl: 2 passages have no text, and are kept",
    ),
    "more keys": (
        CORPUS,
        line('{"_id": "d4", "text": "x", "metadata": {"text": NaN}}'),
        {"passages": 4},
        f"corpus.jsonl: {MORE}",
    ),
    "a tab in a passage": (
        CORPUS,
        line('{"_id": "d4", "text": "a\tb"}'),
        {"passages": 4},
        f"corpus.jsonl: {ESCAPED}",
    ),
    "a tab in a query": (QUERIES, replaced(b"sea", b"s\ta"), {}, f"queries.jsonl: {ESCAPED}"),
    "control characters": (
        CORPUS,
        line('{"_id": "d4", "text": "\x00\x01\x1b\x0b"}\n{"_id": "d5", "text": "\x0c"}'),
        {"passages": 5, "empty_passages": 1},
        f"corpus.jsonl: {ESCAPED} (2 times)",
        "corpus.jsonl: 1 passages have no text, and are kept",
    ),
    "escaped control characters": (QUERIES, replaced(b"sea", rb"\u0000\t\r\n"), {}),
    "line ends of Unicode": (
        CORPUS,
        line('{"_id": "d4", "text": "a\u2028\x85b"}'),
        {"passages": 4},
    ),
    "a number for an id": (
        CORPUS,
        line(f'{{"_id": 4, "text": "x"}}\n{{"_id": {"9" * 40}, "text": "y"}}'),
        {"passages": 5},
        f"corpus.jsonl: {NUMBER} (2 times)",
    ),
    "half a character": (
        CORPUS,
        line(r'{"_id": "d4", "title": "\udc00", "text": "a\ud83d"}'),
        {"passages": 4},
        f"corpus.jsonl: {HALF} (2 times)",
    ),
    "half a character in a query": (
        QUERIES,
        line(r'{"_id": "q3", "text": "\ud83d"}'),
        {"queries": 3},
        f"queries.jsonl: {HALF}",
    ),
    "a header missing": (TRAIN, lambda content: content[25:], {}, f"train.tsv: {HEADLESS}"),
    "a passage of nothing, as pandas writes it": (
        CORPUS,
        line('{"_id": "d4", "title": "nan", "text": "nan"}\n{"_id": "d5", "text": "None"}'),
        {"passages": 5},
        "corpus.jsonl: a text is no more than 'nan', as tools write where there is none "
        "(2 times, first in line 4)",
        "corpus.jsonl: a text is no more than 'None', as tools write where there is none "
        "(first in line 5)",
    ),
    "a query that is relevant to itself": (
        QUERIES,
        lambda content: {
            QUERIES: content + b'{"_id": "d2", "text": "what turns the tide?"}',
            TEST: SET[TEST] + b"d2\td2\t1\nd2\td1\t0\n",
        },
        {"queries": 3, "judged": {"train": 1, "test": 2}},
        "test.tsv: 1 judgements above 0 that no ranking can reach, counted as not found",
    ),
    "no line end at the end": (TEST, lambda content: content[:-1], {}),
    "spaces around ids": (TRAIN, replaced(b"q1\td1\t", b" q1 \td1 \t "), {}),
    "Windows passages": (CORPUS, replaced(b"\n", b"\r\n"), {}, f"corpus.jsonl: {WINDOWS}"),
    "Windows queries": (QUERIES, replaced(b"\n", b"\r\n"), {}, f"queries.jsonl: {WINDOWS}"),
    "Windows judgements": (TEST, replaced(b"\n", b"\r\n"), {}, f"test.tsv: {WINDOWS}"),
    "a marked corpus": (CORPUS, lambda c: b"\xef\xbb\xbf" + c, {}, f"corpus.jsonl: {MARK}"),
    "marked queries": (QUERIES, lambda c: b"\xef\xbb\xbf" + c, {}, f"queries.jsonl: {MARK}"),
    "marked judgements": (TEST, lambda c: b"\xef\xbb\xbf" + c, {}, f"test.tsv: {MARK}"),
    "blank lines": (
        CORPUS,
        replaced(b"\n", b"\n\n \t\n"),
        {},
        f"corpus.jsonl: {BLANK} (6 times)",
    ),
    "blank lines among judgements": (
        TRAIN,
        lambda content: b"\n" + content + b"\t\t\n",
        {},
        f"train.tsv: {BLANK} (2 times)",
    ),
    "gzip": (CORPUS, packed("corpus.jsonl.gz"), {}, f"corpus.jsonl.gz: {PACKED}"),
    "gzip without its name": (CORPUS, packed(CORPUS), {}, f"corpus.jsonl: {PACKED}"),
    "gzip of queries": (QUERIES, packed("queries.jsonl.gz"), {}, f"queries.jsonl.gz: {PACKED}"),
    "gzip of judgements": (TEST, packed("qrels/test.tsv.gz"), {}, f"test.tsv.gz: {PACKED}"),
    "gzip's name alone": (TEST, renamed("qrels/test.tsv.gz"), {}, f"test.tsv.gz: {PLAIN}"),
    "packed and plain": (CORPUS, with_twin(CORPUS), {}, f"corpus.jsonl.gz: {TWICE_GIVEN}"),
    "packed and plain judgements": (TRAIN, with_twin(TRAIN), {}, f"train.tsv.gz: {TWICE_GIVEN}"),
    "judgements of another name": (
        TRAIN,
        renamed("qrels/Training.tsv"),
        {"judged": {"test": 1}},
        f"Training.tsv: {OTHER_NAME}",
    ),
    "a copy": (
        QUERIES,
        lambda content: {QUERIES: content, "queries.jsonl.bak": content},
        {},
        f"queries.jsonl.bak: {OTHER_NAME}",
    ),
    "what macOS leaves": (TEST, lambda c: {TEST: c, "qrels/.DS_Store": b"", "qrels/._a": b""}, {}),
}
AS_IT_IS = {"passages": 3, "queries": 2, "judged": {"train": 1, "test": 1}}


@pytest.mark.parametrize("case", ACCEPTED.values(), ids=list(ACCEPTED))
def test_what_is_harmless_is_accepted_and_said(tmp_path, case):
    name, change, counted, *notes = case
    source = tmp_path / "mine"
    changed = change(SET[name])
    put(source, {key: value for key, value in SET.items() if key != name})
    put(source, changed if isinstance(changed, dict) else {name: changed})
    counts = storing.store(source, tmp_path / "draft")
    assert counts.details() == {
        **AS_IT_IS,
        **counted,
        **({"notes": tuple(notes)} if notes else {}),
    }
    assert storing.check(tmp_path / "draft").judged == counts.judged


def test_the_set_as_it_is_has_nothing_to_note(tmp_path):
    put(tmp_path / "mine", SET)
    assert storing.store(tmp_path / "mine", tmp_path / "draft").details() == AS_IT_IS


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (line("{"), "sed -n 4p < {}"),
        (replaced(b"\n", b"\r"), "tr '\\r' '\\n' < {} > {}.lines, if \\r ends its lines"),
        (recoded("latin-1"), "iconv -f LATIN1 -t UTF-8 < {} > {}.utf8, if LATIN1 is what it is"),
        (lambda content: gzip.compress(content + b"{"), "gzip -dc < {} | sed -n 4p"),
        (truncated, "gzip --test < {}"),
    ],
)
def test_a_hint_can_be_pasted_whatever_the_name_of_the_folder(tmp_path, change, hint):
    source = tmp_path / "my set's"
    put(source, {**SET, CORPUS: change(SET[CORPUS])})
    with pytest.raises(DataError) as caught:
        storing.store(source, tmp_path / "draft")
    name = str(source / CORPUS).replace("'", "'\"'\"'")
    assert caught.value.hint == hint.replace("{}", f"'{name}'")


TABLE_NAMES = [*TABLES, *(f"{name}.gz" for name in TABLES), "pairs.CSV", "pairs.txt", "pairs"]
INTERESTING = [
    b"\x00", b"\t", b"\t\t", b"\n", b"\n\n", b"\r", b"\r\n", b'"', b'""', b'"""', b"\\", b"\\u",
    b"\\ud800", b"\\udc00x", b"\\u0000", b"{", b"}", b"[", b"]", b"{}", b",", b":", b" ", b"0",
    b"-", b"-1", b"1e9", b"NaN", b"null", b"true", b"[]", b'["x"]', b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\x1f\x8b", b"\x1c", b"\x0b",
    b"\x7f", b"'", b";", b"#", b"9" * 30, b'{"_id": "d1", "text": ""}\n', b"_id", b'"_id": "x", ',
    b'"query": "y", ', b"q1\td1\t2\n", b"q1\td2\t1\n", b"\xf0\x9f\x8c\x8a",
]  # fmt: skip
NAMES = [
    "corpus.jsonl", "corpus.jsonl.gz", "Corpus.jsonl", "corpus.json", "queries.jsonl.gz",
    "queries.tsv", "queries.jsonl", "qrels/dev.tsv", "qrels/dev.tsv.gz", "qrels/train.tsv",
    "qrels/train.tsv.gz", "qrels/test.tsv.gz", "qrels/TEST.tsv", "qrels/test.txt", "test.tsv",
]  # fmt: skip


def lines_of(content):
    return content.split(b"\n")


def cut(rng, content):
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[start : min(end, start + rng.choice([1, 1, 3, 1000]))]


def flip(rng, content, files):
    if not content:
        return content
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def delete(rng, content, files):
    return content.replace(cut(rng, content), b"", 1)


def insert(rng, content, files):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(INTERESTING) + content[at:]


def swap_lines(rng, content, files):
    rows = lines_of(content)
    one, other = rng.randrange(len(rows)), rng.randrange(len(rows))
    rows[one], rows[other] = rows[other], rows[one]
    return b"\n".join(rows)


def double_line(rng, content, files):
    rows = lines_of(content)
    rows.insert(rng.randrange(len(rows) + 1), rng.choice(rows))
    return b"\n".join(rows)


def truncate(rng, content, files):
    return content[: rng.randrange(len(content) + 1)]


def splice(rng, content, files):
    at = rng.randrange(len(content) + 1)
    return content[:at] + cut(rng, rng.choice(list(files.values()))) + content[at:]


def take_over(rng, content, files):
    return rng.choice(list(files.values()))


def recode(rng, content, files):
    try:
        text = content.decode()
        return text.encode(rng.choice(["utf-16", "utf-16-le", "latin-1", "utf-8-sig", "utf-32"]))
    except UnicodeError:
        return content


def end_lines(rng, content, files):
    return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b"\r\r\n", b"\n \n"]))


def pack(rng, content, files):
    return gzip.compress(content, mtime=0)


CHANGES = [
    flip, delete, insert, insert, insert, swap_lines, double_line, truncate, splice, take_over,
    recode, end_lines, pack,
]  # fmt: skip


def mutate(rng, files, names):
    """Some changes, and what they were; a file that is moved may take the place of another."""
    files, done = dict(files), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        name = rng.choice(sorted(files))
        if rng.random() < 0.08:
            new = rng.choice(names)
            files[new] = files.pop(name)
            done.append(f"{name} to {new}")
        else:
            change = rng.choice(CHANGES)
            files[name] = change(rng, files[name], files)
            done.append(f"{change.__name__} {name}")
    return files, done


def meant(content):
    """The lines that are not blank, decoded another way than ours; they can be, where stored."""
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    rows = [row.strip("\r") for row in content.decode("utf-8-sig").split("\n")]
    return [row for row in rows if row.strip()], rows


def whole(text):
    return re.sub("[\ud800-\udfff]", "�", text)


def noted(counts, name, what):
    """How often something is noted of a file."""
    for note in counts.notes:
        if match := re.fullmatch(rf"{name}: {what}(?: \(([0-9,]+) times\))?", note):
            return int((match[1] or "1").replace(",", ""))
    return 0


def read_name(files, name):
    return name if name in files else f"{name}.gz"


def check_texts(draft, counts, files):
    name = read_name(files, CORPUS)
    rows = [json.loads(row, strict=False) for row in meant(files[name])[0]]
    assert {(p.id, p.title, p.text) for p in Corpus.open(draft)} == {
        (str(row["_id"]), whole(row.get("title") or ""), whole(row["text"])) for row in rows
    }
    assert counts.passages + noted(counts, name, DUPLICATE) == len(rows)
    name = read_name(files, QUERIES)
    rows = [json.loads(row, strict=False) for row in meant(files[name])[0]]
    assert beir.read_queries(draft) == {str(row["_id"]): whole(row["text"]) for row in rows}
    kept_once = "a query that stands twice with the same words, kept once"
    assert counts.queries + noted(counts, name, kept_once) == len(rows)


def check_judgements(draft, counts, files):
    splits = beir.read_splits(draft)
    for split in beir.SPLITS:
        name = read_name(files, f"qrels/{split}.tsv")
        assert (split in splits) == (name in files)
        if name not in files:
            continue
        short = name.removeprefix("qrels/")
        rows = [tuple(map(str.strip, row.split("\t"))) for row in meant(files[name])[0]]
        headed = rows[0] == beir.HEADER
        assert noted(counts, short, HEADLESS) == (not headed)
        rows = rows[headed:]
        assert {
            (query, passage, grade)
            for query, judged in splits[split].items()
            for passage, grade in judged.items()
        } == {(query, passage, int(grade)) for query, passage, grade in rows}
        once = noted(counts, short, "a judgement that stands twice, kept once")
        assert sum(map(len, splits[split].values())) + once == len(rows)


def check_files(counts, files):
    """Each file is read, or it is said that it is not, or it is not in the place of one."""
    names = {CORPUS, QUERIES, *(f"qrels/{split}.tsv" for split in beir.SPLITS)}
    read = {read_name(files, name) for name in names}
    for name in files.keys() - read:
        short = name.removeprefix("qrels/")
        said = any(note.startswith(f"{short}: not read, as ") for note in counts.notes)
        assert said == name.startswith(("qrels/", CORPUS, QUERIES)), name


def store_set(folder, files):
    """Store a folder, and hold what is stored against the files."""
    counts = storing.store(folder / "mine", folder / "draft")
    checked = storing.check(folder / "draft")
    assert (checked.passages, checked.queries) == (counts.passages, counts.queries)
    check_texts(folder / "draft", counts, files)
    check_judgements(folder / "draft", counts, files)
    check_files(counts, files)


def cells_of(name, content):
    """The rows of a table as dictionaries, read another way than ours."""
    rows, lines = meant(content)
    name = name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        return [json.loads(row, strict=False) for row in rows]
    read = csv.reader(io.StringIO("\n".join(lines)))
    cells = read if name.endswith(".csv") else [row.split("\t") for row in lines]
    cells = [row for row in cells if "".join(row)]
    cells = [row for row in cells if len(row) > 1 or row[0].strip()]
    table = [dict(zip(map(str.strip, cells[0]), row, strict=True)) for row in cells[1:]]
    for row in table:
        if row.get("negatives", "").strip().startswith("["):
            row["negatives"] = json.loads(row["negatives"].strip(), strict=False)
    return table


def graded(table):
    """(query, passage) -> grade."""
    grades = Counter()
    texts = Counter()
    for row in table:
        query = whole(row.get("query", row.get("anchor"))).strip()
        for column, value in row.items():
            if column == "positive" or re.fullmatch("negatives?|negative_[0-9]+", column):
                for text in value if isinstance(value, list) else [value or ""]:
                    if whole(text).strip():
                        pair = query, whole(text).strip()
                        texts[pair] += 1
                        grades[pair] = max(grades[pair], int(column == "positive"))
    return dict(grades), sum(texts.values())


def store_rows(folder, files):
    """Store a table, and hold what is stored against the file."""
    [name] = files
    counts = store_table(folder / "mine" / name, folder / "draft")
    assert storing.check(folder / "draft").passages == counts.passages
    table = cells_of(name, files[name])
    grades, texts = graded(table)
    corpus = Corpus.open(folder / "draft")
    passages = dict(zip(corpus.ids, corpus.texts, strict=True))
    queries = beir.read_queries(folder / "draft")
    assert grades == {
        (queries[query], passages[passage]): grade
        for query, judged in beir.read_qrels(folder / "draft", "train").items()
        for passage, grade in judged.items()
    }
    assert counts.passages + noted(counts, name, DUPLICATE) == texts
    several = "a query that stands in several rows, taken as one"
    assert counts.queries + noted(counts, name, several) == len(table)


def attempt(number, seed, folder):
    """The kind of what was tried, and whether it was stored rather than refused."""
    rng = random.Random(f"{seed}:{number}")
    store, files, names = store_set, SET, NAMES
    if rng.random() < 0.35:
        name = rng.choice(sorted(TABLES))
        store, files, names = store_rows, {name: TABLES[name]}, TABLE_NAMES
    files, done = mutate(rng, files, names)
    put(folder / "mine", files)
    refusal = None
    try:
        store(folder, files)
    except DataError as error:
        refusal = str(error)
    except BaseException as error:
        error.add_note(f"seed {seed}, number {number}: {', '.join(done)}")
        raise
    assert refusal is None or str(folder / "mine") in refusal
    return store.__name__, refusal is None


def attempts(seed, count):
    """Kind and outcome of many attempts -> how often; in memory, where that is a file system."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    outcomes = Counter()
    for number in range(count):
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            outcomes[attempt(number, seed, Path(folder))] += 1
    return outcomes


@pytest.mark.system
def test_whatever_happens_to_the_files_they_are_stored_whole_or_refused():
    outcomes = attempts(1, 2_400)
    assert outcomes.total() >= 2_000
    assert len(outcomes) == 4
    assert min(outcomes.values()) > 100
