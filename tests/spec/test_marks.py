import os

import pytest

from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.marks import check_marked, damaged_files, is_marked, mark, read_marked

DAMAGES = {
    "lost": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "one bit": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1, *b"ut"])),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
}


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "cache" / "deep" / "file.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"out")
    mark(file)
    return file


def test_a_marked_file_is_read_as_it_was_written(file, tmp_path):
    assert is_marked(file)
    assert read_marked(file) == b"out"
    check_marked(file)
    assert list(damaged_files(tmp_path)) == []
    # printf out | sha256sum
    expected = "762069bc07a6e1b5df123a5ae7bd91c10daa04694fbaa17fba0cd6a8dcce8f22"
    assert (file.parent / "file.bin.sha256").read_text() == expected


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_found_with_size_and_time_put_back(file, tmp_path, damage):
    status = file.stat()
    DAMAGES[damage](file)
    if file.exists():
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    for read in (read_marked, check_marked):
        with pytest.raises(WorkspaceError, match=r"file\.bin is not what was written") as refused:
            read(file)
        assert refused.value.hint == f"rm -r {file.parent}"
    assert list(damaged_files(tmp_path)) == [file]


@pytest.mark.parametrize("damage", ["emptied", "cut", "lost"])
def test_a_file_whose_mark_is_damaged_is_damaged(file, tmp_path, damage):
    DAMAGES[damage](file.with_name("file.bin.sha256"))
    assert is_marked(file) == (damage != "lost")
    assert list(damaged_files(tmp_path)) == [file]


def test_a_file_that_was_not_written_to_its_end_has_no_mark(file, tmp_path):
    (tmp_path / "begun.bin").write_bytes(b"half")
    (tmp_path / ".hidden.draft").mkdir()
    (tmp_path / ".hidden.draft" / "file").write_bytes(b"of a build that is going on")
    assert not is_marked(tmp_path / "begun.bin")
    assert list(damaged_files(tmp_path)) == [tmp_path / "begun.bin"]


def test_what_is_written_anew_gets_a_mark_anew(file):
    file.write_bytes(b"new")
    mark(file)
    assert read_marked(file) == b"new"
