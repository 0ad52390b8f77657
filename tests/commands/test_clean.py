"""`ragcun reproduce --clean`: what can be made again goes, and what cannot stays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.lexical.rank import open_index
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace

DAYS_AGO = 1_700_000_000


@pytest.fixture
def clean(ragcun, workspace, monkeypatch, tmp_path):
    """Call it for the state of what is listed, by name of its place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache of one"))

    def run(*words, code=0):
        outcome = ragcun(
            *("reproduce", "-p", "smoke", "--clean", "-w", workspace, "--json", *words)
        )
        assert outcome.code == code, outcome.err
        if code:
            return outcome.err
        found = json.loads(outcome.out)
        return {Path(one["place"]).name: one for one in found["remains"]}

    return run


def states(found):
    return {name: one["state"] for name, one in found.items()}


def files(root):
    return {file: file.stat().st_size for file in root.rglob("*") if file.is_file()}


def index_with(workspace, **settings):
    """A BM25 index of the training set with other settings than any run has, open."""
    folder = workspace / "data/datasets/smoke"
    place = Workspace(workspace, workspace / "data")
    config = MiningConfig(**settings)
    before = {path.name for path in (workspace / "cache/bm25").glob("[!.]*")}
    index = open_index(folder, Corpus.open(folder), config, workspace=place, progress=Silent())
    (new,) = {path.name for path in (workspace / "cache/bm25").glob("[!.]*")} - before
    return new, index


def lay(*files, content="x" * 1000):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def test_what_a_finished_plan_uses_or_recorded_is_listed_and_stays(clean, workspace):
    shutil.rmtree(workspace / "cache/base-outputs")
    before = files(workspace)
    found = clean("--yes")
    caches = {path.name for path in workspace.glob("cache/bm25/[!.]*")}
    read = {path.name for path in workspace.glob("data/cache/pydocs/*.jsonl")}
    assert states(found) == dict.fromkeys(caches | read, "used")
    assert {path: size for path, size in files(workspace).items() if path in before} == before
    for name in caches:
        place = Path(found[name]["place"])
        assert found[name]["bytes"] == sum(files(place).values()) > 0
        passages = json.loads((place / "index.json").read_text())["passages"]
        assert found[name]["seconds"] == passages / 20_000


def test_unused_caches_and_leftovers_go_and_all_stays_current(clean, ragcun, workspace, tmp_path):
    run = next(workspace.glob("runs/with_isotropy/*/seed-1"))
    evaluated = ("eval", "--profile", "smoke", "--datasets", "smoke-numpy", "-w", workspace)
    kept = ("--keep-embeddings", "--set", "evaluation.depth=150", "--experiment", "with_isotropy")
    assert ragcun(*evaluated, *kept, "--seed", "1", "--references", "none").code == 0
    (embeddings,) = workspace.glob("cache/embeddings/[!.]*")
    assert ragcun("reproduce", "-p", "smoke", "-w", workspace).code == 0  # as it was before
    other, _ = index_with(workspace, k1=1.5)
    gone = shutil.copytree(workspace / "cache/bm25" / other, workspace / "cache/bm25/gone")
    index = json.loads((gone / "index.json").read_text())
    (gone / "index.json").write_text(json.dumps({**index, "k1": 0.9, "corpus": "0" * 64}))
    recipe = json.loads((run / "manifest.json").read_text())["stages"]["train"]["recipe"]
    lay(run / ".train.draft/recipe", content=recipe)
    lay(run / ".train.draft/resume/checkpoint-5/optimizer.pt")
    lay(run.with_name("seed-2") / ".train.draft/recipe", content="another")
    lay(workspace / "cache/bm25/.cut.draft/rows.i32", workspace / "cache/bm25/.cut.lock")
    lay(workspace / "data/datasets/.smoke.whole/queries.jsonl")
    lay(workspace / "runs/with_isotropy/.old.discarded/model/x")
    lay(workspace / "data/cache/pydocs/numpy-1.0.0-2.jsonl")
    lay(workspace / "data/cache/pydocs/numpy-1.0.0-2.jsonl.sha256")
    lay(workspace / "data/downloads/scifact.zip.part")
    lay(workspace / "data/downloads/nfcorpus.zip.part")
    shutil.copytree(workspace / "data/datasets/smoke-numpy", workspace / "data/datasets/nfcorpus")
    earlier = shutil.copytree(run, run.with_name("seed-1.kept-01234567"))
    kernels = tmp_path / "cache of one/ragcun/kernels"
    lay(kernels / "old/x.nbi", kernels / "young/x.nbi")
    os.utime(kernels / "old", (DAYS_AGO, DAYS_AGO))
    lay(workspace / "cache/base-outputs/0123/000000.npy")
    shutil.rmtree(earlier / ".train.draft")
    before = files(workspace)
    found = clean("--dry-run")
    assert files(workspace).keys() == before.keys() | set(workspace.rglob(".*.lock"))
    expected = {
        other: "unused",
        "gone": "unused",
        embeddings.name: "used",
        ".cut.draft": "left over",
        ".smoke.whole": "left over",
        ".old.discarded": "left over",
        "numpy-1.0.0-2.jsonl": "unused",
        "scifact.zip.part": "a stage goes on from it",
        "nfcorpus.zip.part": "left over",
        earlier.name: "cannot be made again",
        "old": "unused",
        "young": "used",
        "0123": "unused",
    }
    assert states(found).items() >= expected.items()
    search = json.loads((run / "manifest.json").read_text())["stages"]["search/smoke-numpy"]
    assert found[embeddings.name]["seconds"] >= search["seconds"]
    assert found[earlier.name]["seconds"] is None
    assert "nothing was removed" in clean(code=2)
    assert files(workspace).keys() >= before.keys()
    after = clean("--yes")
    removed = {name for name, state in expected.items() if state in ("unused", "left over")}
    assert all(after[name]["state"] == "removed" for name in removed)
    assert not any(Path(after[name]["place"]).exists() for name in removed)
    assert not (run / ".train.draft").exists()
    assert (run.with_name("seed-2") / ".train.draft/recipe").exists()
    assert {path.name for path in earlier.iterdir()} >= {"model", "manifest.json"}
    assert not {one["state"] for one in clean("--dry-run").values()} & {"unused", "left over"}
    outcome = ragcun("reproduce", "-p", "smoke", "-w", workspace, "--verify")
    assert "nothing to do: all is current" in outcome.err
    assert "damaged" not in outcome.err


HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_another_process_holds_is_left_alone_and_said(clean, workspace):
    """A read of a data set that is going on keeps its folder; so does a build of an index."""
    other, _ = index_with(workspace, k1=1.5)
    lock = workspace / f"cache/bm25/.{other}.lock"
    command = [sys.executable, "-c", HOLD, lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert clean("--yes")[other]["state"] == "in use, kept"
        assert (workspace / "cache/bm25" / other / "scores.f32").exists()
        holder.stdin.close()
    assert clean("--yes")[other]["state"] == "removed"
    assert not (workspace / "cache/bm25" / other).exists()


def found_by(index):
    queries = {"q1": "shortest path between nodes", "q2": "sort an array of edges", "q3": "graph"}
    hits = index.search_batches(queries, depth=50)
    return [(query, rows.tolist(), scores.tolist()) for query, rows, scores in hits]


def test_a_reader_of_an_index_that_is_removed_reads_on(clean, workspace):
    other, index = index_with(workspace, k1=1.5)
    assert clean("--yes")[other]["state"] == "removed"
    assert not (workspace / "cache/bm25" / other).exists()
    found = found_by(index)
    assert found == found_by(index_with(workspace, k1=1.5)[1])
    assert [len(rows) for _, rows, _ in found] == [50, 50, 50]
