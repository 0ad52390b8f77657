import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ragcun_cli
from ragcun_cli.pipeline.machine.kernels import keep_kernels

SEARCH = """
from ragcun_cli.pipeline.machine.kernels import keep_kernels
keep_kernels()
import torch
from ragcun_cli.core.search.ranking import ExactTopK
search = ExactTopK(torch.eye(3), k=2, similarity="dot")
search.add(torch.eye(3), first_row=0)
print(search.hits().rows.tolist())
"""


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)


def test_kernels_are_kept_in_the_users_cache_by_their_source(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_kernels()
    (folder,) = (tmp_path / "ragcun/kernels").iterdir()
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder)
    assert len(folder.name) == 16


def test_a_folder_that_was_named_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_kernels()
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"
    assert not list(tmp_path.iterdir())


@pytest.mark.system
def test_without_a_folder_that_can_be_written_nothing_is_kept_and_searches_go_on(
    monkeypatch, tmp_path
):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    keep_kernels()
    assert "NUMBA_CACHE_DIR" not in os.environ
    done = subprocess.run([sys.executable, "-c", SEARCH], capture_output=True, text=True)
    assert done.stdout == "[[0, 1], [1, 0], [2, 0]]\n", done.stderr


def test_a_change_in_a_room_of_core_changes_the_folder(tmp_path):
    """Else a changed kernel would run from the cache as it was."""
    package = shutil.copytree(Path(ragcun_cli.__file__).parent, tmp_path / "ragcun_cli")
    script = "from ragcun_cli.pipeline.machine.kernels import keep_kernels; keep_kernels()\n"
    script += "import os; print(os.environ['NUMBA_CACHE_DIR'])"
    environment = {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def folder():
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    before = folder()
    assert folder() == before
    with (package / "core/search/topk_kernels.py").open("a") as kernels:
        kernels.write("# another kernel\n")
    assert folder() != before
