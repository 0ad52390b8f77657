import ctypes
import os
import tempfile

import pytest

from ragcun_cli.core.folders import discard, whole_folder


def make(folder, name, *, error=None):
    """Replace a folder by one with this file; the names of all that stands beside meanwhile."""
    with whole_folder(folder) as draft:
        (draft / name).touch()
        meanwhile = {path.name for path in folder.parent.iterdir()}
        if error is not None:
            raise error
    return meanwhile


def names(place):
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*"))


def test_a_folder_is_replaced_once_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "new" / "index"
    assert make(folder, "first") == {".index.draft"}
    assert make(folder, "second") == {".index.draft", "index"}
    assert names(tmp_path) == ["new", "new/index", "new/index/second"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_a_folder_whose_new_one_fails_is_left_and_no_draft_beside(tmp_path, error):
    folder = tmp_path / "index"
    with pytest.raises(type(error)):
        make(folder, "first", error=error)
    assert names(tmp_path) == []
    make(folder, "first")
    with pytest.raises(type(error)):
        make(folder, "second", error=error)
    assert names(tmp_path) == ["index", "index/first"]


def test_what_a_kill_left_of_a_draft_is_no_part_of_the_next(tmp_path):
    (tmp_path / ".index.draft" / "left").mkdir(parents=True)
    make(tmp_path / "index", "whole")
    assert names(tmp_path) == ["index", "index/whole"]


def filled(folder):
    """A folder with files in folders, and how many things there are to delete."""
    for name in ("a/b/one", "a/two", "c/three", "four"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return len(names(folder)) + 1


@pytest.fixture
def stopping():
    """Stop before the n-th thing is deleted."""

    def at(number):
        deleted = []

        def counted(real):
            def delete(*args, **kwargs):
                if len(deleted) == number:
                    raise KeyboardInterrupt
                deleted.append(args)
                return real(*args, **kwargs)

            return delete

        patch = pytest.MonkeyPatch()
        patch.setattr(os, "unlink", counted(os.unlink))
        patch.setattr(os, "rmdir", counted(os.rmdir))
        return patch

    return at


def test_no_stop_leaves_a_part_of_a_discarded_folder_under_its_name(tmp_path, stopping):
    folder = tmp_path / "checkpoint-10"
    for number in range(filled(folder)):
        filled(folder)
        patch = stopping(number)
        with pytest.raises(KeyboardInterrupt):
            discard(folder)
        patch.undo()
        assert not folder.exists()
        assert names(tmp_path), "it stopped nothing"
        discard(folder)
        assert names(tmp_path) == [], "what the stop left is still there"


def test_what_a_stop_left_of_another_folder_is_removed_with_the_next(tmp_path):
    filled(tmp_path / ".checkpoint-5.discarded")
    filled(tmp_path / "checkpoint-10")
    filled(tmp_path / "checkpoint-15")
    discard(tmp_path / "checkpoint-10")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-15"}


def test_no_stop_leaves_a_part_of_a_replaced_folder_under_its_name(tmp_path, stopping):
    folder = tmp_path / "index"
    for number in range(filled(folder)):
        discard(folder)
        filled(folder)
        whole = names(folder)
        patch = stopping(number)
        with pytest.raises(KeyboardInterrupt):
            make(folder, "new")
        patch.undo()
        assert not folder.exists() or names(folder) in (whole, ["new"])
    make(folder, "new")
    assert {path.name for path in tmp_path.iterdir()} == {"index"}


def test_a_replaced_folder_is_there_at_every_stop_where_the_system_can_exchange(tmp_path, stopping):
    folder = tmp_path / "index"
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("the system's C library cannot exchange two folders in one step")
    for number in range(filled(folder)):
        filled(folder)
        patch = stopping(number)
        with pytest.raises(KeyboardInterrupt):
            make(folder, "new")
        patch.undo()
        assert folder.exists()
        discard(folder)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_file_that_was_a_temporary_one_has_the_mode_that_the_umask_gives(tmp_path, umask):
    before = os.umask(umask)
    try:
        with whole_folder(tmp_path / "model") as draft:
            with tempfile.NamedTemporaryFile(dir=draft, delete=False) as made:
                made.write(b"weights")
            (draft / "plain").touch()
            (draft / "script").touch(0o755)
    finally:
        assert os.umask(before) == umask
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "model").iterdir()}
    assert modes.pop("script") == 0o755 & ~umask
    assert {*modes.values()} == {0o666 & ~umask}
    assert len(modes) == 2
