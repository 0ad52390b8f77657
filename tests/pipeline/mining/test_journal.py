import json

import pytest

from ragcun_cli.pipeline.mining import journal
from ragcun_cli.pipeline.mining.journal import Journal

NAMES = ("a.jsonl", "b.jsonl")


def write(folder, first, last):
    with Journal(folder, NAMES) as kept:
        for number in range(first, last):
            kept.add({"number": number}, {"square": number**2})


def rows(folder):
    files = [(folder / name).read_text().splitlines() for name in NAMES]
    return [tuple(map(json.loads, lines)) for lines in zip(*files, strict=True)]


def expected(count):
    return [({"number": n}, {"square": n**2}) for n in range(count)]


def test_rows_are_written_and_found_again(tmp_path):
    write(tmp_path, 0, 7)
    assert Journal(tmp_path, NAMES).rows == 7
    write(tmp_path, 7, 9)
    assert rows(tmp_path) == expected(9)


@pytest.mark.parametrize("cut", range(1, 60, 3))
@pytest.mark.parametrize("name", NAMES)
def test_a_torn_row_is_cut_off_in_all_files_and_written_again(tmp_path, name, cut):
    write(tmp_path, 0, 5)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[:-cut])
    kept = Journal(tmp_path, NAMES).rows
    assert kept == raw[:-cut].count(b"\n") < 5
    write(tmp_path, kept, 5)
    assert rows(tmp_path) == expected(5)


def test_rows_are_on_disk_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "ROWS_AT_ONCE", 3)
    kept = Journal(tmp_path, NAMES)
    for number in range(8):
        kept.add({"number": number}, {"square": number**2})
    assert rows(tmp_path) == expected(6)


def test_what_was_added_before_an_error_is_kept(tmp_path):
    def fail():
        with Journal(tmp_path, NAMES) as kept:
            kept.add({"number": 0}, {"square": 0})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert rows(tmp_path) == expected(1)
