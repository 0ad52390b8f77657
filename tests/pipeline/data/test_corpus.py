import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.sets import corpus_writer
from ragcun_cli.pipeline.data.sets.corpus import Corpus, Passage, content_digest
from ragcun_cli.pipeline.data.sets.corpus_writer import write_corpus
from ragcun_cli.pipeline.data.sets.lines import Notes
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.spec.errors import DataError

BENCHMARK = Path(__file__).parents[3] / "benchmarks/msmarco_conversion.py"


@pytest.fixture
def small_runs(monkeypatch):
    """So little memory that a few passages need several runs and batches."""
    monkeypatch.setattr(corpus_writer, "RUN_CHARACTERS", 1000)
    monkeypatch.setattr(corpus_writer, "BATCH_ROWS", 7)
    monkeypatch.setattr(corpus_writer, "_RUN_BATCH_CHARACTERS", 50)


def passages(count, *, seed=1):
    order = np.random.default_rng(seed).permutation(count)
    return [Passage(f"d{row}", f"title {row}" * (row % 2), f"text {row}") for row in order.tolist()]


def written(folder, rows, notes=None):
    folder.mkdir()
    return write_corpus(rows, folder, source=Path("corpus.jsonl"), notes=notes or Notes())


def test_what_is_stored_does_not_depend_on_memory_or_on_the_order_of_the_passages(
    tmp_path, monkeypatch
):
    record = written(tmp_path / "a", passages(200))
    monkeypatch.setattr(corpus_writer, "RUN_CHARACTERS", 1000)
    monkeypatch.setattr(corpus_writer, "_RUN_BATCH_CHARACTERS", 50)
    assert written(tmp_path / "b", passages(200, seed=2)) == record == read_record(tmp_path / "b")
    files = [tmp_path / name / "passages/passages.arrow" for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not list((tmp_path / "b").glob(".runs*"))


def test_passages_are_read_by_row_and_by_id(tmp_path, small_runs):
    rows = passages(200)
    written(tmp_path / "a", rows)
    corpus = Corpus.open(tmp_path / "a")
    expected = sorted(rows)
    assert corpus.ids[:] == [row.id for row in expected]
    assert [passage[:3] for passage in corpus] == [row[:3] for row in expected]
    assert list(corpus.texts) == [row.content for row in expected]
    assert corpus.texts[13] == expected[13].content
    assert corpus.texts[-1] == expected[-1].content
    some = [150, 3, 3, 77]
    assert corpus.texts_of(some) == [expected[row].content for row in some]
    assert corpus.ids_of(some) == [expected[row].id for row in some]
    assert content_digest(corpus) == read_record(tmp_path / "a").sha256


def test_some_rows_are_a_corpus_too(tmp_path, small_runs):
    written(tmp_path / "a", passages(50))
    whole = Corpus.open(tmp_path / "a")
    part = whole.take([2, 5, 30]).take([0, 2])
    assert part.ids[:] == [whole.ids[2], whole.ids[30]]
    assert part.texts[:] == [whole.texts[2], whole.texts[30]]
    assert part.rows_of([whole.ids[30], whole.ids[5]]).tolist() == [1, -1]


@settings(max_examples=60)
@given(
    names=st.sets(st.text(min_size=1, max_size=6), min_size=1, max_size=30),
    wanted=st.lists(st.text(max_size=6), max_size=10),
)
def test_rows_are_found_as_a_dictionary_finds_them(names, wanted):
    names = {n for n in names if n.isprintable()} or {"x"}
    wanted = [n for n in wanted if n.isprintable()] + sorted(names)
    corpus = Corpus.of(dict.fromkeys(names, "text"))
    rows = {name: row for row, name in enumerate(sorted(names))}
    assert corpus.rows_of(wanted).tolist() == [rows.get(name, -1) for name in wanted]


def test_an_id_that_is_not_there_is_named():
    with pytest.raises(DataError, match="no passage 'z' in the corpus"):
        Corpus.of({"a": "x"}).texts_by_id(["a", "z"])


def test_a_passage_that_stands_twice_is_found_across_runs(tmp_path, small_runs):
    rows = [row._replace(line=line) for line, row in enumerate(passages(100), 1)]
    notes = Notes()
    record = written(tmp_path / "same", [*rows, rows[4]._replace(line=101)], notes)
    assert record.passages == 100
    assert len(notes.lines()) == 1
    other = rows[4]._replace(text="other words", line=101)
    with pytest.raises(DataError, match=rf"corpus.jsonl:101: .*'{rows[4].id}'.* in line 5"):
        written(tmp_path / "other", [*rows, other])


def test_passages_without_words_are_kept_and_counted(tmp_path):
    rows = [Passage("a", "", ""), Passage("b", " ", " "), Passage("c", "", "x")]
    assert written(tmp_path / "a", rows).empty == 2
    assert Corpus.open(tmp_path / "a").texts[:] == ["", "", "x"]


def test_the_file_is_one_that_the_datasets_library_reads(tmp_path):
    written(tmp_path / "a", passages(20))
    table = Dataset.from_file(str(tmp_path / "a/passages/passages.arrow"))
    assert table.column_names == ["id", "title", "text"]
    assert table.cache_files  # memory-mapped
    assert table[0]["id"] == "d0"


def test_a_folder_that_ragcun_did_not_write_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no passages that ragcun has stored"):
        Corpus.open(tmp_path)


def test_a_hundredth_of_ms_marco_is_stored_in_little_memory(tmp_path):
    """The benchmark at 1 %, with a hundredth of the memory for its runs."""
    command = [sys.executable, BENCHMARK, tmp_path, "--share", "0.01", "--run-characters", "640000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row = re.split(r"\s*\|\s*", done.stdout.splitlines()[-1].strip("| \n"))
    assert row[1] == "88,418"
    assert int(row[5].replace(",", "")) < 500  # MB; Python and the libraries alone take 200
