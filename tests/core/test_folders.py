import pytest

from ragcun_cli.core.folders import whole_folder


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
