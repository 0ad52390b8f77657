import json

import pytest

from ragcun_cli.pipeline.mining import journal
from ragcun_cli.pipeline.mining.journal import Journal

NAMES = ("a.jsonl", "b.jsonl")
BLOCKS = "a.jsonl.blocks"


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
@pytest.mark.parametrize("name", [*NAMES, BLOCKS])
def test_a_torn_block_is_cut_off_in_all_files_and_written_again(tmp_path, monkeypatch, name, cut):
    monkeypatch.setattr(journal, "ROWS_AT_ONCE", 2)
    write(tmp_path, 0, 5)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[:-cut])
    lines = raw[:-cut].count(b"\n")
    kept = Journal(tmp_path, NAMES).rows
    assert kept == (2 * lines if name == BLOCKS else lines // 2 * 2) < 5
    write(tmp_path, kept, 5)
    assert rows(tmp_path) == expected(5)


@pytest.mark.parametrize("name", [*NAMES, BLOCKS])
def test_no_byte_of_what_was_kept_can_change_unseen(tmp_path, monkeypatch, name):
    monkeypatch.setattr(journal, "ROWS_AT_ONCE", 2)
    write(tmp_path, 0, 5)
    whole = {file: (tmp_path / file).read_bytes() for file in (*NAMES, BLOCKS)}
    for place in range(len(whole[name])):
        for file, content in whole.items():
            (tmp_path / file).write_bytes(content)
        raw = bytearray(whole[name])
        raw[place] ^= 1
        (tmp_path / name).write_bytes(raw)
        kept = Journal(tmp_path, NAMES).rows
        assert kept < 5
        assert rows(tmp_path) == expected(kept)


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
