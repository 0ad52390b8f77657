import json

import pytest
from beir.datasets.data_loader import GenericDataLoader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data import beir
from ragcun_cli.spec.errors import DataError

CORPUS = {"d2": "the tide turns", "d10": "Über den Wolken 字", "d1": 'a "quoted" line\nand another'}
QUERIES = {"q2": "when does the tide turn?", "q1": "wolken"}
QRELS = {
    "train": {"q1": {"d10": 1, "d1": 0}},
    "test": {"q2": {"d2": 2, "d1": -1}, "q1": {"d10": 1}},
}


@pytest.fixture
def folder(tmp_path):
    beir.write(tmp_path / "sea", corpus=CORPUS, queries=QUERIES, qrels=QRELS)
    return tmp_path / "sea"


def put(file, *lines):
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def refusal(read, *arguments):
    with pytest.raises(DataError) as caught:
        read(*arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_what_was_written_is_read_back(folder):
    corpus = beir.read_corpus(folder)
    assert dict(zip(corpus.ids, corpus.texts, strict=True)) == CORPUS
    assert beir.read_queries(folder) == QUERIES
    assert {split: beir.read_qrels(folder, split) for split in QRELS} == QRELS


def test_passages_come_in_the_order_of_their_ids(folder):
    assert beir.read_corpus(folder).ids == ("d1", "d10", "d2")
    assert len(beir.read_corpus(folder)) == 3


def test_the_files_are_the_bytes_of_beirs_layout(tmp_path):
    beir.write(
        tmp_path / "sea",
        corpus={"b": "ü", "a": "x"},
        queries={"q": "y"},
        qrels={"dev": {"q": {"b": 0, "a": 2}}},
    )
    files = {
        file.relative_to(tmp_path / "sea").as_posix(): file.read_bytes().decode()
        for file in (tmp_path / "sea").rglob("*")
        if file.is_file()
    }
    assert files == {
        "corpus.jsonl": '{"_id": "a", "title": "", "text": "x"}\n'
        '{"_id": "b", "title": "", "text": "ü"}\n',
        "queries.jsonl": '{"_id": "q", "text": "y"}\n',
        "qrels/dev.tsv": "query-id\tcorpus-id\tscore\nq\ta\t2\nq\tb\t0\n",
    }


def test_the_order_of_the_content_does_not_change_the_bytes(folder, tmp_path):
    beir.write(
        tmp_path / "again",
        corpus=dict(reversed(CORPUS.items())),
        queries=dict(reversed(QUERIES.items())),
        qrels={split: dict(reversed(judged.items())) for split, judged in QRELS.items()},
    )
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_the_loader_of_the_beir_package_reads_the_same_from_what_we_write(folder):
    corpus, queries, qrels = GenericDataLoader(str(folder)).load(split="test")
    assert corpus == {key: {"title": "", "text": text} for key, text in CORPUS.items()}
    assert queries == QUERIES
    assert qrels == QRELS["test"]


def test_we_read_the_same_as_the_loader_of_the_beir_package_from_a_published_layout(tmp_path):
    put(
        tmp_path / "corpus.jsonl",
        '{"_id": "MED-10", "title": "Statins", "text": "and survival", "metadata": {"url": "x"}}',
        '{"_id": "MED-9", "title": "", "text": "no title", "metadata": {}}',
        '{"_id": "MED-8", "title": "no text", "text": "", "metadata": {}}',
    )
    put(
        tmp_path / "queries.jsonl", '{"_id": "PLAIN-2", "text": "Do statins help?", "metadata": {}}'
    )
    (tmp_path / "qrels").mkdir()
    put(
        tmp_path / "qrels" / "test.tsv",
        "query-id\tcorpus-id\tscore",
        "PLAIN-2\tMED-10\t2",
        "PLAIN-2\tMED-9\t1",
    )
    corpus, queries, qrels = GenericDataLoader(str(tmp_path)).load(split="test")
    ours = beir.read_corpus(tmp_path)
    assert dict(zip(ours.ids, ours.texts, strict=True)) == {
        key: f"{row['title']} {row['text']}".strip() for key, row in corpus.items()
    }
    assert ours.texts == ("Statins and survival", "no text", "no title")
    assert beir.read_queries(tmp_path) == queries
    assert beir.read_qrels(tmp_path, "test") == qrels


def test_a_whole_data_set_is_counted(folder):
    counts = beir.check(folder)
    assert (counts.passages, counts.queries) == (3, 2)
    assert counts.judged == {"train": 1, "test": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: "),
        ('{"_id": "x", "text": "y"', "not JSON: "),
        ("[1]", 'expected an object with a text "_id"'),
        ('{"text": "y"}', 'expected an object with a text "_id"'),
        ('{"_id": 7, "text": "y"}', 'expected an object with a text "_id"'),
        ('{"_id": "", "text": "y"}', 'expected an object with a text "_id"'),
        ('{"_id": "x"}', '"text" is not a text'),
        ('{"_id": "x", "text": null}', '"text" is not a text'),
    ],
)
@pytest.mark.parametrize(
    ("name", "read"), [("corpus", beir.read_corpus), ("queries", beir.read_queries)]
)
def test_a_malformed_line_is_named_by_file_and_number(folder, name, read, line, message):
    file = folder / f"{name}.jsonl"
    put(file, '{"_id": "first", "title": "", "text": "good"}', "", line)
    assert refusal(read, folder).startswith(f"{file}:3: {message}")


def test_a_title_that_is_no_text_is_refused(folder):
    put(folder / "corpus.jsonl", '{"_id": "x", "title": 1, "text": "y"}')
    assert refusal(beir.read_corpus, folder).endswith(':1: "title" is not a text')


def test_a_query_without_words_is_refused(folder):
    put(folder / "queries.jsonl", '{"_id": "x", "text": " "}')
    assert refusal(beir.read_queries, folder).endswith(":1: query 'x' has no text")


@pytest.mark.parametrize(
    ("name", "read", "kind"),
    [("corpus", beir.read_corpus, "passage"), ("queries", beir.read_queries, "query")],
)
def test_an_id_that_stands_twice_is_refused(folder, name, read, kind):
    line = '{"_id": "x", "text": "y"}'
    put(folder / f"{name}.jsonl", line, line)
    assert refusal(read, folder).endswith(f":2: {kind} id 'x' stands in the file twice")


def test_an_empty_corpus_is_refused(folder):
    put(folder / "corpus.jsonl")
    assert refusal(beir.check, folder) == f"{folder / 'corpus.jsonl'}: the corpus is empty"


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert refusal(beir.check, folder) == f"{folder / name} is missing"


def test_a_missing_split_is_named(folder):
    assert refusal(beir.read_qrels, folder, "dev") == f"{folder / 'qrels' / 'dev.tsv'} is missing"


def test_a_data_set_without_a_split_is_refused(folder):
    for file in (folder / "qrels").iterdir():
        file.unlink()
    assert refusal(beir.check, folder).endswith("holds none of train.tsv, dev.tsv, test.tsv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td1\t1", None),
        ("q1\td99\t1", "corpus id 'd99' is not in corpus.jsonl"),
        ("q99\td1\t1", "query id 'q99' is not in queries.jsonl"),
    ],
)
def test_a_judgement_of_an_unknown_id_is_refused(folder, line, message):
    put(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore", "q1\td2\t1", line)
    if message is None:
        beir.check(folder)
    else:
        assert refusal(beir.check, folder) == f"{folder / 'qrels' / 'train.tsv'}: {message}"


@pytest.mark.parametrize(
    "line",
    [
        "q1\td1\thigh",
        "q1\td1\t1.0",
        "q1\td1\t",
        "q1\td1\t--1",
        "q1\td1\t²",
        "q1 d1 1",
        "q1\td1",
        "q1\t0\td1\t1",
    ],
)
def test_a_judgement_without_a_whole_score_is_refused(folder, line):
    file = folder / "qrels" / "train.tsv"
    put(file, "query-id\tcorpus-id\tscore", line)
    assert refusal(beir.read_qrels, folder, "train").startswith(
        f"{file}:2: expected query-id, corpus-id and a whole score"
    )


def test_a_pair_judged_twice_is_refused(folder):
    put(folder / "qrels" / "train.tsv", "q1\td1\t1", "q1\td1\t0")
    message = refusal(beir.read_qrels, folder, "train")
    assert message.endswith(":2: 'q1' and 'd1' are judged twice")


def test_a_split_without_judgements_is_refused(folder):
    put(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore")
    assert refusal(beir.read_qrels, folder, "train").endswith("train.tsv: no judgements")


def test_judgements_may_lack_the_header_and_end_lines_as_windows_does(folder):
    (folder / "qrels" / "train.tsv").write_bytes(b"q1\td1\t1\r\nq2\td2\t0\r\n")
    assert beir.read_qrels(folder, "train") == {"q1": {"d1": 1}, "q2": {"d2": 0}}


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv"])
def test_a_file_that_is_not_utf8_is_named(folder, name):
    (folder / name).write_bytes('{"_id": "x", "text": "Öl"}\n'.encode("latin-1"))
    assert refusal(beir.check, folder).startswith(f"{folder / name} is not UTF-8: ")


IDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    corpus=st.dictionaries(IDS, TEXTS, min_size=1, max_size=5),
    queries=st.dictionaries(IDS, TEXTS.filter(str.strip), min_size=1, max_size=5),
    grade=st.integers(-3, 3),
)
def test_any_ids_and_texts_are_read_back(tmp_path, corpus, queries, grade):
    judged = {query: dict.fromkeys(corpus, grade) for query in queries}
    beir.write(tmp_path, corpus=corpus, queries=queries, qrels={"test": judged})
    read = beir.read_corpus(tmp_path)
    assert dict(zip(read.ids, read.texts, strict=True)) == {k: v.strip() for k, v in corpus.items()}
    assert beir.read_queries(tmp_path) == queries
    assert beir.read_qrels(tmp_path, "test") == judged
    assert beir.check(tmp_path).passages == len(corpus)
    lines = (tmp_path / "corpus.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["_id"] for line in lines] == sorted(corpus)
