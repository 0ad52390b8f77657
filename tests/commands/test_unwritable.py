"""A workspace that can be read and not written: a colleague's, an archive, a read-only mount."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "unprivileged_commands.py"


CACHES = ("XDG_CACHE_HOME", "HF_HOME", "HF_DATASETS_CACHE", "MPLCONFIGDIR", "NUMBA_CACHE_DIR")


def unprivileged(*commands, **environment):
    """Code, output and errors of some commands that one process runs, to which modes apply."""
    words = json.dumps([[*map(str, words)] for words in commands])
    told = {key: value for key, value in os.environ.items() if key not in CACHES} | environment
    done = subprocess.run(
        [sys.executable, SCRIPT, words], capture_output=True, text=True, env=told, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    for _, _, said in outcomes:
        assert "Traceback" not in said
    return outcomes


def modes(root, change):
    for path in [root, *root.rglob("*")]:
        path.chmod(change(path.stat().st_mode))


@pytest.fixture
def archive(smoke_workspace, tmp_path):
    """The reproduced workspace, in which nobody may write."""
    root = shutil.copytree(smoke_workspace, tmp_path / "archive")
    modes(root, lambda mode: mode & ~0o222)
    yield root
    modes(root, lambda mode: mode | 0o700)


def contents(root):
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


PLAN = """
name = "two"
references = ["bm25"]
experiments = ["with_isotropy"]
seeds = [1]
overrides = {encoder = {base = "ragcun/tiny"}}
"""


@pytest.mark.system
def test_what_is_read_is_the_same_where_nothing_can_be_written(
    ragcun, smoke_workspace, archive, tmp_path
):
    """The home neither: libraries keep nothing. BM25 of a set of which no index is kept, too."""
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    (archive / "cache").chmod(0o755)
    shutil.rmtree(archive / "cache")
    (tmp_path / "two.toml").write_text(PLAN)
    smoke, model = ("--profile", "smoke"), next(archive.glob("runs/with_isotropy/*/seed-1/model"))
    query = ("eval", "--query", "sort an array", "--datasets", "smoke-numpy", "--json")
    commands = [
        ("report",),
        *(("report", *smoke, "--format", name) for name in ("latex", "markdown", "html", "csv")),
        ("report", "--json", "--output", tmp_path / "report.json"),
        ("isotropy",),
        ("eval", *smoke),
        ("eval", "--datasets", "smoke-numpy", "--json"),
        (*query, "--model", model),
        (*query, "--model", "ragcun/tiny", "--set", "evaluation.batch_size=7"),
        ("data", "list"),
        ("data", "stats", "smoke-numpy", "--train", "smoke", *smoke),
        ("data", "verify", "smoke"),
        ("data", "export", "smoke", tmp_path / "exported"),
        ("mine", *smoke, "--seed", "1"),
        ("train", *smoke, "--json"),
        ("reproduce", *smoke, "--dry-run"),
        ("reproduce", *smoke, "--dry-run", "--set", "training.scale=11"),
        ("reproduce", *smoke),
        ("report", *smoke, "--set", "evaluation.depth=150"),
    ]
    before = contents(archive)
    found = unprivileged(*((*words, "-w", archive) for words in commands), HOME=str(home))
    assert contents(archive) == before
    for words, (code, out, said) in zip(commands, found, strict=True):
        assert code == 0, (words, said)
        if words[0] in ("report", "isotropy", "data") and "export" not in words:
            usual = ragcun(*words, "-w", smoke_workspace)
            assert out == usual.out, words
    assert len((tmp_path / "report.json").read_text()) > 1000
    hits = json.loads(found[9][1])
    assert [len(found) for found in hits.values()] == [10]


def test_what_would_have_to_be_written_is_refused_before_it_is_computed(archive, tmp_path):
    (tmp_path / "table.jsonl").write_text('{"query": "a b c", "positive": "c d e"}\n')
    commands = [
        ("train", "--profile", "smoke", "--set", "training.scale=11"),
        ("eval", "--profile", "smoke", "--set", "evaluation.depth=150"),
        ("mine", "--profile", "smoke", "--force"),
        ("isotropy", "--profile", "smoke", "--set", "isotropy.max_passages=101"),
        ("data", "import", tmp_path / "table.jsonl", "--name", "mine"),
        ("data", "get", "pydocs-numpy"),
        ("eval", "--model", "ragcun/tiny", "--datasets", "smoke-numpy"),
    ]
    before = contents(archive)
    found = unprivileged(*((*words, "-w", archive) for words in commands))
    assert contents(archive) == before
    for words, (code, out, said) in zip(commands, found, strict=True):
        assert (code, out) == (2, ""), (words, said)
        assert " cannot be written" in said, (words, said)
        assert f"{archive}" in said, (words, said)
        assert "\nHint: " in said


def test_a_folder_that_cannot_be_read_is_one_message(archive, tmp_path):
    places = [archive, archive / "runs", archive / "data", archive.parent]
    for place in places:
        mode = place.stat().st_mode
        place.chmod(0)
        try:
            commands = [("report",), ("data", "list"), ("reproduce", "--profile", "smoke")]
            found = unprivileged(*((*words, "-w", archive) for words in commands))
        finally:
            place.chmod(mode)
        for code, out, said in found:
            assert (code, out) == (2, ""), (place, said)
            assert said.count("cannot be read") == 1, (place, said)
            assert "\nHint: " in said
