import csv
import gzip
import hashlib
import itertools
import json
import random
import subprocess
import tracemalloc

import pytest

from ragcun_cli.pipeline.data.bring.user_tables import store_table
from ragcun_cli.pipeline.data.sets import beir, corpus_writer, lines
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.spec.errors import DataError

ROWS = [
    {"query": "why is the sea salty?", "positive": "rivers carry salt", "negative": "tides turn"},
    {
        "query": "what turns the tide?",
        "positive": "the moon, mostly",
        "negative": "rivers carry salt",
    },
]
GRADES = {
    "why is the sea salty?": {"rivers carry salt": 1, "tides turn": 0},
    "what turns the tide?": {"the moon, mostly": 1, "rivers carry salt": 0},
}


def name_of(kind, text):
    return kind + hashlib.sha256(text.encode()).hexdigest()[:16]


def put(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def jsonl(tmp_path, *rows):
    return put(tmp_path / "pairs.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


def separated(tmp_path, suffix=".csv", rows=ROWS, **manners):
    """Written by the csv module, as others do; a TSV without quotes."""
    file = tmp_path / f"pairs{suffix}"
    if suffix == ".tsv":
        manners = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None} | manners
    with file.open("w", encoding="utf-8", newline="") as stream:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(stream, columns, lineterminator="\n", **manners)
        writer.writeheader()
        writer.writerows(rows)
    return file


def stored(file, **held_out):
    draft = file.parent / f"draft-{len(list(file.parent.iterdir()))}"
    return draft, store_table(file, draft, **held_out)


def grades(draft):
    """Query text -> passage text -> grade, of all splits."""
    corpus = Corpus.open(draft)
    texts = dict(zip(corpus.ids, corpus.texts, strict=True))
    queries = beir.read_queries(draft)
    return {
        queries[query]: {texts[passage]: grade for passage, grade in judged.items()}
        for qrels in beir.read_splits(draft).values()
        for query, judged in qrels.items()
    }


def refusal(file, **held_out):
    with pytest.raises(DataError) as caught:
        stored(file, **held_out)
    assert str(file) in str(caught.value)
    return str(caught.value).removeprefix(str(file)), caught.value.hint


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_of_texts_is_stored(tmp_path, suffix):
    draft, counts = stored(separated(tmp_path, suffix))
    assert grades(draft) == GRADES
    assert (counts.passages, counts.queries, counts.judged) == (3, 2, {"train": 2})
    assert counts.notes == (
        f"pairs{suffix}: a passage that stands twice with the same words, kept once",
    )


def test_jsonl_gives_what_csv_and_tsv_give(tmp_path):
    files = [
        jsonl(tmp_path, *ROWS),
        separated(tmp_path, ".csv"),
        separated(tmp_path, ".tsv"),
        put(tmp_path / "other.CSV.gz", gzip.compress(separated(tmp_path, ".csv").read_bytes())),
    ]
    drafts = [stored(file)[0] for file in files]
    for name in ("queries.jsonl", "qrels/train.tsv", "passages/passages.arrow"):
        assert len({(draft / name).read_bytes() for draft in drafts}) == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_columns_of_other_names_are_read_as_what_they_are_said_to_be(tmp_path, suffix):
    names = {"query": "question", "positive": "the answer", "negative_1": "query"}
    rows = [
        {"query": f"q{n}", "positive": f"p{n}", "negative_1": f"n{n}", "id": str(n)}
        for n in range(5)
    ]
    theirs = [{names.get(key, key): text for key, text in row.items()} for row in rows]

    def table(rows):
        return jsonl(tmp_path, *rows) if suffix == ".jsonl" else separated(tmp_path, suffix, rows)

    ours = grades(stored(table(rows))[0])
    assert len(ours) == 5
    columns = ",".join(f"{own} = {name}" for own, name in names.items())
    assert grades(stored(table(theirs), columns=columns)[0]) == ours
    # A column that has one of our names and is not meant is left out.
    without = grades(stored(table(theirs), columns="query=question,positive=the answer")[0])
    assert without == {query: {p: g for p, g in of.items() if g} for query, of in ours.items()}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path, suffix):
    rows = [{"question": "q", "answer": "a"}]
    file = jsonl(tmp_path, *rows) if suffix == ".jsonl" else separated(tmp_path, suffix, rows)
    message, _ = refusal(file, columns="query=question,positive=reply")
    assert message == ":1: no column 'reply'; these are: 'question', 'answer'"


@pytest.mark.parametrize(
    "columns", ["x=y", "query", "query=", "=a", "query=a,positive=a", "query=a,query=b"]
)
def test_columns_that_say_nothing_or_two_things_are_refused(tmp_path, columns):
    with pytest.raises(DataError, match="--columns cannot read '") as caught:
        stored(jsonl(tmp_path, {"query": "q", "positive": "p"}), columns=columns)
    assert caught.value.hint == "--columns query=question,positive=answer"


def test_ids_are_made_of_the_texts(tmp_path):
    draft, _ = stored(jsonl(tmp_path, {"query": " Öl? ", "positive": "\tja\n"}))
    assert beir.read_queries(draft) == {name_of("q", "Öl?"): "Öl?"}
    assert Corpus.open(draft).ids[:] == [name_of("p", "ja")]
    assert beir.read_splits(draft) == {
        "train": {name_of("q", "Öl?"): {name_of("p", "ja"): 1}},
    }


def test_what_is_stored_does_not_depend_on_the_order_of_the_rows_nor_on_memory(
    tmp_path, monkeypatch
):
    rows = [
        {"query": f"q{n % 40}", "positive": f"text {n % 90}", "negative": f"text {n % 70}"}
        for n in range(200)
    ]
    first, counts = stored(jsonl(tmp_path, *rows), test_queries=7, dev_queries=3)
    assert (counts.passages, counts.queries) == (90, 40)
    monkeypatch.setattr(corpus_writer, "RUN_CHARACTERS", 500)
    random.Random(1).shuffle(rows)
    second, _ = stored(jsonl(tmp_path, *rows), test_queries=7, dev_queries=3)
    files = [file.relative_to(first) for file in first.rglob("*") if file.is_file()]
    assert len(files) == 6
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_a_query_that_stands_in_several_rows_has_several_positives(tmp_path):
    file = jsonl(
        tmp_path,
        {"query": "q", "positive": "a"},
        {"query": " q", "positive": ["b", "c"]},
        {"query": "q", "positive": "a "},
    )
    draft, counts = stored(file)
    assert grades(draft) == {"q": {"a": 1, "b": 1, "c": 1}}
    assert counts.notes == (
        "pairs.jsonl: a query that stands in several rows, taken as one (2 times)",
        "pairs.jsonl: a query and a passage that stand together twice, kept once",
        "pairs.jsonl: a passage that stands twice with the same words, kept once",
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_a_passage_that_is_positive_and_negative_for_a_query_is_positive(tmp_path, swapped):
    rows = [
        {"query": "q", "positive": "a", "negative": "b"},
        {"query": "q", "positive": "b", "negative": None},
    ]
    draft, counts = stored(jsonl(tmp_path, *(reversed(rows) if swapped else rows)))
    assert grades(draft) == {"q": {"a": 1, "b": 1}}
    told = "pairs.jsonl: a passage is both positive and negative for a query, taken as positive"
    assert told in counts.notes


@pytest.mark.parametrize(
    "negatives",
    [
        {"negatives": ["b", "c"]},
        {"negatives": ["b", "", " ", "c"]},
        {"negatives": "b", "negative": "c"},
        {"negative_1": "b", "negative_2": "", "negative_10": "c", "negative": None},
        {"negative": ["c", "b"], "negatives": []},
    ],
)
def test_negatives_have_several_forms(tmp_path, negatives):
    draft, counts = stored(jsonl(tmp_path, {"query": "q", "positive": "a", **negatives}))
    assert grades(draft) == {"q": {"a": 1, "b": 0, "c": 0}}
    assert counts.notes == ()


@pytest.mark.parametrize(
    "negatives",
    [
        {"negatives": '["b", "c"]'},
        {"negatives": ' [ "b","c" ,""] '},
        {"negatives": "b", "negative": "c"},
        {"negative_1": "b", "negative_2": " ", "negative_3": "c"},
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_negatives_have_several_columns_or_are_a_json_list(tmp_path, suffix, negatives):
    row = {"query": "q", "positive": "a", **negatives}
    draft, counts = stored(separated(tmp_path, suffix, [row]))
    assert grades(draft) == {"q": {"a": 1, "b": 0, "c": 0}}
    assert counts.notes == ()


def test_only_negatives_in_the_plural_may_be_a_json_list(tmp_path):
    row = {"query": "[q]", "positive": '["a"]', "negative": '["b"]'}
    draft, _ = stored(separated(tmp_path, ".csv", [row]))
    assert grades(draft) == {"[q]": {'["a"]': 1, '["b"]': 0}}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_an_anchor_is_a_query_and_other_columns_are_left_out_and_said(tmp_path, suffix):
    other = "id" if suffix == ".tsv" else "id\t"
    row = {"anchor": "q", "score": "0.5", "positive": "a", other: "7"}
    file = jsonl(tmp_path, row) if suffix == ".jsonl" else separated(tmp_path, suffix, [row])
    draft, counts = stored(file)
    assert grades(draft) == {"q": {"a": 1}}
    name = r"'id\t'" if suffix == ".jsonl" else "'id'"
    assert counts.notes == (
        f'{file.name}: "anchor" is read as "query"',
        f"{file.name}: column 'score' left out",
        f"{file.name}: column {name} left out",
    )


def test_an_anchor_beside_a_query_is_left_out(tmp_path):
    draft, counts = stored(jsonl(tmp_path, {"anchor": "x", "query": "q", "positive": "a"}))
    assert grades(draft) == {"q": {"a": 1}}
    assert counts.notes == ("pairs.jsonl: column 'anchor' left out",)


def test_of_a_great_many_columns_that_are_left_out_the_first_are_named(tmp_path):
    rows = [{"query": "q", "positive": "a", f"x{n}": n} for n in range(30)]
    _, counts = stored(jsonl(tmp_path, *rows))
    left_out = [note for note in counts.notes if "left out" in note]
    assert left_out == [
        *(f"pairs.jsonl: column 'x{n}' left out" for n in range(10)),
        "pairs.jsonl: more columns left out",
    ]


def test_quoted_cells_of_a_csv_hold_separators_quotes_and_line_breaks(tmp_path):
    row = {"query": 'a, "b"\tc', "positive": "one\n\n\ntwo", "negative": '"'}
    rows = [{"query": "q", "positive": "p", "negative": ""}, row, {**row, "query": "r"}]
    draft, counts = stored(separated(tmp_path, rows=rows))
    assert grades(draft) == {
        "q": {"p": 1},
        'a, "b"\tc': {"one\n\n\ntwo": 1, '"': 0},
        "r": {"one\n\n\ntwo": 1, '"': 0},
    }
    assert counts.notes[0] == (
        "pairs.csv: a row that goes over several lines, as its quotes say "
        "(2 times, first in line 3)"
    )


def test_quotes_inside_a_cell_are_text(tmp_path):
    file = put(tmp_path / "pairs.tsv", 'query\tpositive\nsay "hi"\tthe "text"\n')
    draft, counts = stored(file)
    assert grades(draft) == {'say "hi"': {'the "text"': 1}}
    assert counts.notes == ()


KEPT = "pairs.tsv: a cell begins with a quote, which is kept, as a TSV is not quoted"


def test_quotes_of_a_tsv_join_no_rows_and_are_kept_and_said(tmp_path):
    rows = [(f"question {n}", f"answer {n}") for n in range(20)]
    rows[3], rows[10] = ('"to be', "or not"), ('or not to be"', "answer 10")
    rows[12] = ('"to be"', '"')
    lines = ["query\tpositive", *map("\t".join, rows)]
    draft, counts = stored(put(tmp_path / "pairs.tsv", "\n".join(lines)))
    assert grades(draft) == {query: {answer: 1} for query, answer in rows}
    assert counts.notes == (f"{KEPT} (3 times, first in line 5)",)


@pytest.mark.parametrize(
    ("rows", "manners", "where"),
    [
        (ROWS, {"quoting": csv.QUOTE_ALL}, ":1: '\"query\"' stands in quotes"),
        ([*ROWS, {"query": 'say "hi"', "positive": "p"}], {}, ':4: \'"say ""hi'),
        ([{"query": "q", "positive": "p", "negatives": '["a"]'}], {}, ':2: \'"[""a'),
        ([*ROWS, {"query": "q", "positive": "p\tp"}], {}, ":4: expected 3 cells"),
        ([*ROWS, {"query": "q", "positive": "p\n\np"}], {}, ":4: expected 3 cells"),
    ],
    ids=["all cells", "doubled quotes", "a JSON list", "a tab", "line breaks"],
)
def test_a_tsv_that_a_tool_has_quoted_is_refused_and_its_csv_is_read(
    tmp_path, rows, manners, where
):
    usual = {"quoting": csv.QUOTE_MINIMAL, "quotechar": '"'}
    file = separated(tmp_path, ".tsv", rows, **usual | manners)
    said, hint = refusal(file)
    assert said.startswith(where)
    if "stands in quotes" in said:
        subprocess.run(hint, shell=True, check=True)
        file = separated(tmp_path / "..", ".csv", rows)
        assert (tmp_path / "pairs.csv").read_bytes().replace(b"\r\n", b"\n") == file.read_bytes()


FOR_NONE = ["nan", "NaN", "NULL", "null", "None", "N/A", "<NA>", "NA", r"\N"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("column", ["query", "positive", "negative"])
@pytest.mark.parametrize("word", FOR_NONE)
def test_what_tools_write_for_no_text_is_kept_and_said(tmp_path, suffix, column, word):
    rows = [{**ROWS[0], column: text} for text in (word, f" {word}", f"no {word}", "nano", "nones")]
    file = jsonl(tmp_path, *rows) if suffix == ".jsonl" else separated(tmp_path, suffix, rows)
    _, counts = stored(file)
    line = 1 if suffix == ".jsonl" else 2
    said = [note for note in counts.notes if "no more than" in note]
    assert said == [
        f"pairs{suffix}: a text is no more than {word!r}, as tools write where there is none "
        f"(2 times, first in line {line})"
    ]


def test_what_windows_writes_is_read_and_said(tmp_path):
    content = '\ufeffquery,positive\r\n\r\nq,"a\r\n\r\nb"\r\n  \r\n'
    draft, counts = stored(put(tmp_path / "pairs.csv", content))
    assert grades(draft) == {"q": {"a\n\nb": 1}}
    assert counts.notes == (
        "pairs.csv: begins with a byte order mark, left out",
        "pairs.csv: lines end as on Windows",
        "pairs.csv: blank lines left out (2 times)",
        "pairs.csv: a row that goes over several lines, as its quotes say (first in line 3)",
    )


def test_a_packed_table_is_read_whatever_its_name(tmp_path):
    plain = separated(tmp_path).read_bytes()
    packed, named = put(tmp_path / "a.csv", gzip.compress(plain)), put(tmp_path / "b.csv.gz", plain)
    assert "a.csv: packed by gzip, read all the same" in stored(packed)[1].notes
    _, counts = stored(named)
    assert "b.csv.gz: not packed, in spite of its name, read all the same" in counts.notes


def test_a_cell_may_be_longer_than_the_csv_module_likes(tmp_path):
    limit = csv.field_size_limit(131_072)
    try:
        draft, _ = stored(separated(tmp_path, rows=[{"query": "q", "positive": "x" * 200_000}]))
    finally:
        csv.field_size_limit(limit)
    assert grades(draft) == {"q": {"x" * 200_000: 1}}


def test_half_a_character_is_replaced_and_said(tmp_path):
    row = '{"query": "q\\ud800", "positive": "a", "negatives": ["\\udfff"]}'
    draft, counts = stored(put(tmp_path / "pairs.jsonl", row))
    assert grades(draft) == {"q�": {"a": 1, "�": 0}}
    assert counts.notes == (
        "pairs.jsonl: a text holds half a character (a lone surrogate), replaced by U+FFFD "
        "(2 times)",
    )
    cell = put(tmp_path / "pairs.csv", 'query,positive,negatives\nq,a,"[""\\ud800""]"\n')
    assert grades(stored(cell)[0]) == {"q": {"a": 1, "�": 0}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ("[1]", "expected a JSON object, got '[1]'"),
        ('{"positive": "a"}', 'no "query"'),
        ('{"query": "q"}', 'no "positive"'),
        ('{"query": " ", "positive": "a"}', '"query" is empty'),
        ('{"query": null, "positive": "a"}', '"query" is empty'),
        ('{"anchor": "", "positive": "a"}', '"anchor" is empty'),
        ('{"query": 7, "positive": "a"}', '"query" holds something that is not a text'),
        ('{"query": ["q"], "positive": "a"}', '"query" is not a text'),
        ('{"query": [], "positive": "a"}', '"query" is not a text'),
        ('{"query": "q", "positive": ""}', '"positive" is empty'),
        ('{"query": "q", "positive": null}', '"positive" is empty'),
        ('{"query": "q", "positive": []}', '"positive" is empty'),
        ('{"query": "q", "positive": ["a", " "]}', '"positive" is empty'),
        ('{"query": "q", "positive": ["a", 1]}', '"positive" holds something that is not a text'),
        ('{"query": "q", "positive": {"a": 1}}', '"positive" holds something that is not a text'),
        ('{"query": "q", "positive": "a", "negatives": [["b"]]}', '"negatives" holds something'),
        ('{"query": "q", "positive": "a", "negative_1": 0}', '"negative_1" holds something'),
        (
            '{"query": "q", "positive": "a", "query": "r"}',
            "not JSON that can be read: a key stands",
        ),
    ],
)
def test_a_malformed_line_of_jsonl_is_named(tmp_path, line, message):
    file = put(tmp_path / "pairs.jsonl", f'{{"query": "q", "positive": "a"}}\n\n{line}\n')
    said, hint = refusal(file)
    assert said.startswith(f":3: {message}")
    if "no " not in message and "expected a" not in message:
        assert hint == f"sed -n 3p < {file}"


MALFORMED = [
    ("q|a|b|c", "expected 3 cells, as in the header, got 4"),
    ("q|a", "expected 3 cells, as in the header, got 2"),
    ("q", "expected 3 cells, as in the header, got 1"),
    ("|a|b", '"query" is empty'),
    ("q| |b", '"positive" is empty'),
    ("q|a|[1]", '"negatives" holds something that is not a text'),
    ("q|a|[", "not JSON: Expecting value at column 2"),
    ("q|a|" + "[" * 100_000, "not JSON that can be read: "),
    ("q|a\rq|b", "a line ends with \\r alone, as on an old Macintosh"),
]
QUOTED = [  # in a TSV quotes are text
    ('"q"x|a|b', "a cell that begins with a quote goes on after the quote that ends it"),
    ('q|"a|b', "a cell begins with a quote, and none ends it (read up to line 8)"),
]


@pytest.mark.parametrize(
    ("suffix", "row", "message"),
    [(".csv", *case) for case in MALFORMED + QUOTED] + [(".tsv", *case) for case in MALFORMED],
)
def test_a_malformed_row_is_named_by_its_first_line(tmp_path, suffix, row, message):
    separator, first = (",", ['q|"one', "", 'two"|']) if suffix == ".csv" else ("\t", ["q|a|"] * 3)
    lines = ["query|positive|negatives", "", *first, row, "q|a|b", ""]
    content = "\n".join(lines).replace("|", separator)
    said, hint = refusal(put(tmp_path / f"pairs{suffix}", content + "\n"))
    assert said.startswith(f":6: {message}")
    assert hint.startswith("tr '\\r' '\\n' < " if "Macintosh" in message else "sed -n 6p < ")


@pytest.mark.parametrize(
    ("suffix", "line", "hint"),
    [
        (".csv", "why?,because", "printf 'query,positive\\n'"),
        (".csv", "why?,because,x,y", "printf 'query,positive,negative_1,negative_2\\n'"),
        (".tsv", "why?\tbecause", "printf 'query\\tpositive\\n'"),
        (".csv", "question,positive", "printf 'query,positive\\n'"),
        (".csv", "query,answer", "printf 'query,positive\\n'"),
        (".tsv", "query,positive", "printf 'query\\tpositive\\n'"),
    ],
)
def test_a_missing_header_is_refused_with_one_that_fits(tmp_path, suffix, line, hint):
    file = put(tmp_path / f"my pairs{suffix}", f"{line}\nq,a\n")
    said, command = refusal(file)
    assert said.startswith(":1: expected a header with query and positive, got ")
    target = tmp_path / f"with-header{suffix}"
    assert command == f"{{ {hint}; cat '{file}'; }} > {target}, if it has none"


def test_a_column_that_stands_twice_is_refused(tmp_path):
    said, _ = refusal(put(tmp_path / "pairs.csv", "query,positive,negative,negative\nq,a,b,c\n"))
    assert said == ":1: column 'negative' stands in the header twice"


def test_columns_without_a_name_are_left_out(tmp_path):
    draft, counts = stored(put(tmp_path / "pairs.csv", ",query,positive,\n0,q,a,\n"))
    assert grades(draft) == {"q": {"a": 1}}
    assert counts.notes == ("pairs.csv: column '' left out",)


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.json", "pairs.csv.zip", "csv", "pairs.gz"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    said, _ = refusal(put(tmp_path / name, "query,positive\nq,a\n"))
    assert said == " is no table: its name has to end in .jsonl, .csv or .tsv"


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv", "pairs.tsv.gz"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_table_without_rows_is_refused(tmp_path, name, content):
    said, hint = refusal(put(tmp_path / name, content))
    assert said == ": there are no rows"
    assert "query,positive" in hint
    assert '{"query": "…", "positive": "…"}' in hint
    (tmp_path / name).unlink()
    assert refusal(tmp_path / name)[0] == " is missing"


def test_a_header_alone_is_no_table(tmp_path):
    said, hint = refusal(put(tmp_path / "pairs.csv", "query,positive\n"))
    assert said == ": there are no rows"
    assert "a row for each query" in hint


def test_bytes_that_are_not_utf8_are_named_by_line_and_the_hint_knows_of_gzip(tmp_path):
    content = "query,positive\nq,Öl\n".encode("latin-1")
    file = put(tmp_path / "pairs.csv", content)
    said, hint = refusal(file)
    assert said.startswith(":2: not UTF-8: ")
    assert hint.startswith(f"iconv -f LATIN1 -t UTF-8 < {file} > {file}.utf8")
    said, hint = refusal(put(file, gzip.compress(content)))
    assert hint.startswith(f"gzip -dc < {file} | iconv -f LATIN1 -t UTF-8 > {file}.utf8")


def pairs(count):
    return [{"query": f"query {n}", "positive": f"text {n}"} for n in range(count)]


@pytest.mark.parametrize("seed", [1, 2])
def test_queries_are_held_out_by_the_digest_of_seed_and_id(tmp_path, seed):
    file = jsonl(tmp_path, *pairs(50))
    draft, counts = stored(file, test_queries=9, dev_queries=5, seed=seed)
    names = [name_of("q", f"query {n}") for n in range(50)]
    names.sort(key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    splits = {split: set(qrels) for split, qrels in beir.read_splits(draft).items()}
    assert splits == {"test": set(names[:9]), "dev": set(names[9:14]), "train": set(names[14:])}
    assert counts.judged == {"train": 36, "dev": 5, "test": 9}
    assert counts.queries == 50


def test_another_seed_holds_out_others_and_more_dev_leaves_test_as_it_is(tmp_path):
    file = jsonl(tmp_path, *pairs(50))
    tests = [
        set(beir.read_qrels(stored(file, test_queries=9, **more)[0], "test"))
        for more in ({"seed": 1}, {"seed": 2}, {"seed": 1, "dev_queries": 20})
    ]
    assert tests[0] == tests[2] != tests[1]


@pytest.mark.parametrize("held_out", [(0, 3), (3, 0), (2, 1), (1, 9)])
def test_a_query_is_left_to_train_on(tmp_path, held_out):
    test, dev = held_out
    file = jsonl(tmp_path, *pairs(3))
    said, hint = refusal(file, test_queries=test, dev_queries=dev)
    assert said == f" has 3 queries; {test} for test and {dev} for dev leave none to train on"
    assert hint == "--test-queries and --dev-queries of 2 together, or less"
    assert stored(file, test_queries=1, dev_queries=1)[1].judged == dict.fromkeys(beir.SPLITS, 1)


def test_rows_of_empty_cells_are_left_out_and_said(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("query,positive\nwhat,this\n,\n , \n", encoding="utf-8")
    counts = store_table(file, tmp_path / "draft")
    assert (counts.passages, counts.queries) == (1, 1)
    assert counts.notes == ("pairs.csv: rows of empty cells left out (2 times)",)


def packed(file, pieces):
    """A file packed by gzip, from pieces as they come."""
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.writelines(pieces)
    return file


MEGABYTE = b"x" * 1_000_000


@pytest.mark.parametrize(
    ("name", "line", "number"),
    [
        ("a.jsonl.gz", itertools.repeat(MEGABYTE, 60), 1),
        ("a.csv.gz", (b"query,positive\nq,", *[MEGABYTE] * 60), 2),
        ("a.tsv.gz", (b"query\tpositive\nq\ta\n", *[MEGABYTE] * 60), 3),
        ("a.csv.gz", (b"query,positive\nq,a\n", b'q,"', *[MEGABYTE + b"\n"] * 60), 3),
        ("a.csv.gz", (b"query,positive\n", *[b'"' + MEGABYTE + b'\n",'] * 60), 2),
    ],
)
def test_a_line_or_a_row_without_end_is_refused_in_little_memory(tmp_path, name, line, number):
    file = packed(tmp_path / name, line)
    tracemalloc.start()
    message, hint = refusal(file)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert message.startswith(f":{number}: the ")
    assert f" has more than {1 << 24:,} " in message
    assert f"sed -n {number}p" in hint


def test_a_line_as_long_as_is_allowed_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 5)
    file = put(tmp_path / "a.jsonl", "four\nfive5")
    assert list(lines.read_lines(file, lines.Notes())) == [(1, "four"), (2, "five5")]
    file.write_text("four\nfive5\n")
    with pytest.raises(DataError, match=f"{file}:2: the line has more than 5 bytes"):
        list(lines.read_lines(file, lines.Notes()))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_of_very_many_columns_is_refused(tmp_path, suffix, named):
    names = (["query", "positive"] if named else []) + [f"n{n}" for n in range(500_000)]
    separator = "," if suffix == ".csv" else "\t"
    message, hint = refusal(put(tmp_path / f"a{suffix}", f"{separator.join(names)}\n"))
    assert message == f":1: {len(names):,} columns, of 10,000 allowed"
    assert len(hint) < 300
