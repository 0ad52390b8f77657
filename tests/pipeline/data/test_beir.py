import json
import sys
from pathlib import Path

import pytest
from beir.datasets.data_loader import GenericDataLoader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.sets import beir, storing
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.lines import Notes, id_of
from ragcun_cli.spec.errors import DataError

CORPUS = {"d2": "the tide turns", "d10": "Über den Wolken 字", "d1": 'a "quoted" line\nand another'}
QUERIES = {"q2": "when does the tide turn?", "q1": "wolken"}
QRELS = {
    "train": {"q1": {"d10": 1, "d1": 0}},
    "test": {"q2": {"d2": 2, "d1": -1}, "q1": {"d10": 1}},
}


@pytest.fixture
def stored(tmp_path):
    """A set as ragcun keeps it."""
    beir.write_set(tmp_path / "sea", corpus=CORPUS, queries=QUERIES, qrels=QRELS)
    return tmp_path / "sea"


@pytest.fixture
def folder(stored, tmp_path):
    """The same set in BEIR's layout."""
    beir.export_set(stored, tmp_path / "beir")
    return tmp_path / "beir"


def put(file, *lines):
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def store(folder):
    """Store a BEIR folder anew; what came of it."""
    draft = folder.parent / f"draft-{len(list(folder.parent.iterdir()))}"
    draft.mkdir()
    return draft, storing.store(folder, draft)


def refusal(folder, read=store, *arguments):
    with pytest.raises(DataError) as caught:
        read(folder, *arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


def read_back(folder):
    corpus = Corpus.open(folder)
    return dict(zip(corpus.ids, corpus.texts, strict=True))


def test_what_was_written_is_read_back(stored):
    assert read_back(stored) == CORPUS
    assert beir.read_queries(stored) == QUERIES
    assert beir.read_splits(stored) == QRELS


def test_what_was_exported_is_stored_as_it_was(stored, folder):
    draft, counts = store(folder)
    assert (counts.passages, counts.queries, counts.notes) == (3, 2, ())
    assert counts.judged == {"train": 1, "test": 2}
    for name in ("passages/passages.arrow", "passages/corpus.json", "queries.jsonl"):
        assert (draft / name).read_bytes() == (stored / name).read_bytes()
    assert beir.read_splits(draft) == QRELS


def test_passages_come_in_the_order_of_their_ids(stored):
    assert list(Corpus.open(stored).ids) == ["d1", "d10", "d2"]
    assert len(Corpus.open(stored)) == 3


def test_an_export_has_the_bytes_of_beirs_layout(tmp_path):
    beir.write_set(
        tmp_path / "sea",
        corpus={"b": "ü", "a": "x"},
        queries={"q": "y"},
        qrels={"dev": {"q": {"b": 0, "a": 2}}},
    )
    beir.export_set(tmp_path / "sea", tmp_path / "out")
    files = {
        file.relative_to(tmp_path / "out").as_posix(): file.read_bytes().decode()
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    }
    assert files == {
        "corpus.jsonl": '{"_id": "a", "title": "", "text": "x"}\n'
        '{"_id": "b", "title": "", "text": "ü"}\n',
        "queries.jsonl": '{"_id": "q", "text": "y"}\n',
        "qrels/dev.tsv": "query-id\tcorpus-id\tscore\nq\ta\t2\nq\tb\t0\n",
    }


def test_an_export_overwrites_nothing(stored, folder):
    assert refusal(stored, beir.export_set, folder).endswith("exists and is not an empty folder")


def test_the_order_of_the_content_does_not_change_the_bytes(stored, tmp_path):
    beir.write_set(
        tmp_path / "again",
        corpus=dict(reversed(CORPUS.items())),
        queries=dict(reversed(QUERIES.items())),
        qrels={split: dict(reversed(judged.items())) for split, judged in QRELS.items()},
    )
    names = {"passages/passages.arrow", "passages/corpus.json", "queries.jsonl", "qrels/test.tsv"}
    written = {file.relative_to(stored): file for file in stored.rglob("*") if file.is_file()}
    assert names < {name.as_posix() for name in written}
    for name, file in written.items():
        assert (tmp_path / "again" / name).read_bytes() == file.read_bytes()


def test_the_loader_of_the_beir_package_reads_the_same_from_what_we_write(folder):
    corpus, queries, qrels = GenericDataLoader(str(folder)).load(split="test")
    assert corpus == {key: {"title": "", "text": text} for key, text in CORPUS.items()}
    assert queries == QUERIES
    assert qrels == QRELS["test"]


def test_we_read_the_same_as_the_loader_of_the_beir_package_from_a_published_layout(tmp_path):
    source = tmp_path / "published"
    (source / "qrels").mkdir(parents=True)
    put(
        source / "corpus.jsonl",
        '{"_id": "MED-10", "title": "Statins", "text": "and survival", "metadata": {"url": "x"}}',
        '{"_id": "MED-9", "title": "", "text": "no title", "metadata": {}}',
        '{"_id": "MED-8", "title": "no text", "text": "", "metadata": {}}',
    )
    put(source / "queries.jsonl", '{"_id": "PLAIN-2", "text": "Do statins help?", "metadata": {}}')
    put(
        source / "qrels" / "test.tsv",
        "query-id\tcorpus-id\tscore",
        "PLAIN-2\tMED-10\t2",
        "PLAIN-2\tMED-9\t1",
    )
    corpus, queries, qrels = GenericDataLoader(str(source)).load(split="test")
    draft, counts = store(source)
    assert read_back(draft) == {
        key: f"{row['title']} {row['text']}".strip() for key, row in corpus.items()
    }
    assert Corpus.open(draft).texts[:] == ["Statins and survival", "no text", "no title"]
    assert beir.read_queries(draft) == queries
    assert beir.read_qrels(draft, "test") == qrels
    assert counts.notes == ('corpus.jsonl: holds more than "_id", "title" and "text", left out',)
    beir.export_set(draft, tmp_path / "out")
    assert GenericDataLoader(str(tmp_path / "out")).load(split="test") == (corpus, queries, qrels)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: "),
        ('{"_id": "x", "text": "y"', "not JSON: "),
        ("[1]", "expected a JSON object, got '[1]'"),
        ('{"text": "y"}', 'expected an "_id" with a text, got None'),
        ('{"_id": true, "text": "y"}', 'expected an "_id" with a text, got True'),
        ('{"_id": "", "text": "y"}', "expected an \"_id\" with a text, got ''"),
        ('{"_id": "a b", "text": "y"}', "id 'a b' has white space"),
        ('{"_id": "x"}', 'no "text"'),
        ('{"_id": "x", "text": null}', '"text" is not a text'),
        ('{"_id": "x", "text": 7}', '"text" is not a text'),
    ],
)
@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_malformed_line_is_named_by_file_and_number(folder, name, line, message):
    put(folder / name, '{"_id": "first", "title": "", "text": "good"}', "", line)
    assert refusal(folder).startswith(f"{folder / name}:3: {message}")


def test_a_title_that_is_no_text_is_refused(folder):
    put(folder / "corpus.jsonl", '{"_id": "x", "title": 1, "text": "y"}')
    assert refusal(folder).endswith(':1: "title" is not a text')


def test_a_query_without_words_is_refused(folder):
    put(folder / "queries.jsonl", '{"_id": "x", "text": " "}')
    assert refusal(folder).endswith(":1: query 'x' has no text")


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_an_id_that_stands_twice_with_other_words_is_refused(folder, name):
    with (folder / name).open("a", encoding="utf-8") as stream:
        stream.write('{"_id": "x", "text": "y"}\n{"_id": "x", "text": "z"}\n')
    kind = "passage" if name == "corpus.jsonl" else "query"
    assert f" {kind} id 'x' stands in the file twice" in refusal(folder)


def test_an_id_that_stands_twice_with_the_same_words_is_kept_once_and_said(folder):
    for name in ("corpus.jsonl", "queries.jsonl"):
        lines = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(lines + lines, encoding="utf-8")
    _, counts = store(folder)
    assert (counts.passages, counts.queries) == (3, 2)
    assert counts.notes == (
        "queries.jsonl: a query that stands twice with the same words, kept once (2 times)",
        "corpus.jsonl: a passage that stands twice with the same words, kept once (3 times)",
    )


def test_an_empty_corpus_is_refused(folder):
    put(folder / "corpus.jsonl")
    assert refusal(folder) == f"{folder / 'corpus.jsonl'}: the corpus is empty"


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError) as caught:
        store(folder)
    assert str(caught.value) == f"{folder / name} is missing"
    documents = "a folder of documents: --pairs heading; a folder in BEIR's layout has corpus.jsonl"
    assert caught.value.hint == (documents if name == "corpus.jsonl" else None)


def test_a_missing_split_is_named(folder):
    message = refusal(folder, beir.read_qrels, "dev")
    assert message == f"{folder / 'qrels' / 'dev.tsv'} is missing"


def test_a_data_set_without_a_split_is_refused(folder):
    for file in (folder / "qrels").iterdir():
        file.unlink()
    assert refusal(folder).endswith("holds none of train.tsv, dev.tsv, test.tsv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td99\t1", "corpus id 'd99' is not in corpus.jsonl"),
        ("q99\td1\t1", "query id 'q99' is not in queries.jsonl"),
    ],
)
def test_a_judgement_of_an_unknown_id_is_refused(folder, line, message):
    put(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore", "q1\td2\t1", line)
    assert refusal(folder).endswith(f"train.tsv:3: {message}")


def test_a_published_set_may_judge_passages_that_it_lacks_and_says_so(folder, tmp_path):
    put(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore", "q1\td2\t1", "q1\td99\t1")
    counts = storing.store(folder, tmp_path / "draft", published=True)
    assert counts.unknown_judged == 1
    assert counts.notes == (
        "train.tsv: 1 judgements above 0 that no ranking can reach, counted as not found",
        "train.tsv: 1 judged passages are not in the corpus",
    )


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
    assert refusal(folder, beir.read_qrels, "train").startswith(
        f"{file}:2: expected query-id, corpus-id and a whole score"
    )


def test_a_pair_judged_twice_is_refused(folder):
    put(folder / "qrels" / "train.tsv", "q1\td1\t1", "q1\td1\t0")
    message = refusal(folder, beir.read_qrels, "train")
    assert message.endswith(":2: 'q1' and 'd1' are judged twice")


def test_a_split_without_judgements_is_refused(folder):
    put(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore")
    assert refusal(folder, beir.read_qrels, "train").endswith("train.tsv: no judgements")


def test_judgements_may_lack_the_header_and_end_lines_as_windows_does(folder):
    (folder / "qrels" / "train.tsv").write_bytes(b"q1\td1\t1\r\nq2\td2\t0\r\n")
    assert beir.read_qrels(folder, "train") == {"q1": {"d1": 1}, "q2": {"d2": 0}}


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv"])
def test_a_file_that_is_not_utf8_is_named_by_line(folder, name):
    (folder / name).write_bytes('{"_id": "x", "text": "Öl"}\n'.encode("latin-1"))
    assert refusal(folder).startswith(f"{folder / name}:1: not UTF-8: ")


IDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    corpus=st.dictionaries(IDS, TEXTS, min_size=1, max_size=5),
    queries=st.dictionaries(IDS, TEXTS.filter(str.strip), min_size=1, max_size=5),
    grade=st.integers(-3, 3),
)
def test_any_ids_and_texts_are_read_back(tmp_path_factory, corpus, queries, grade):
    root = tmp_path_factory.mktemp("any")
    judged = {query: dict.fromkeys(corpus, grade) for query in queries}
    beir.write_set(root / "a", corpus=corpus, queries=queries, qrels={"test": judged})
    beir.export_set(root / "a", root / "beir")
    draft, counts = store(root / "beir")
    for folder in (root / "a", draft):
        assert read_back(folder) == {key: text.strip() for key, text in corpus.items()}
        assert beir.read_queries(folder) == queries
        assert beir.read_qrels(folder, "test") == judged
    assert counts.passages == len(corpus)
    lines = (root / "beir/corpus.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["_id"] for line in lines] == sorted(corpus)


EVERY_CHARACTER = map(chr, (*range(0xD800), *range(0xE000, sys.maxunicode + 1)))


@pytest.mark.parametrize("space", [one for one in EVERY_CHARACTER if one.isspace()], ids=ascii)
def test_an_id_holds_no_white_space_of_unicode(space):
    for name in (f"a{space}b", space, f"a{space}"):
        with pytest.raises(DataError, match="has white space or a control character"):
            id_of(name, "file:1", Path("file"), Notes())


@pytest.mark.parametrize("name", ["a\u200bb", "a\ufeff", "a\xadb", "É", "京都"])
def test_an_id_may_hold_what_is_not_seen_and_is_no_space(name):
    assert id_of(name, "file:1", Path("file"), Notes()) == name
    assert len(name.split()) == 1  # as tools read a run file
