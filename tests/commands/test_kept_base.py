"""Runs with a frozen base through what is kept of it, by the command line."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from ragcun_cli.pipeline.encoders.encode import encode_block, kept_base_of
from ragcun_cli.pipeline.encoders.find import load_model
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.search.dense import PLAIN, rank_forms
from ragcun_cli.pipeline.search.judged import read_judged_sets
from ragcun_cli.pipeline.search.rankings import write_run
from ragcun_cli.pipeline.stages.runs import runs_on_disk
from ragcun_cli.spec.paths import MODEL, run_file

KILLED = Path(__file__).with_name("killed_command.py")
FROZEN = ("--profile", "smoke", "--experiment", "frozen_efficient", "--references", "none")


def outputs(root):
    kept = (root / "cache/base-outputs").glob("*/*.npy")
    return {file.relative_to(root): file.stat().st_mtime_ns for file in kept}


def results(root, seed):
    """Everything that a run has written, but for cost and provenance."""
    (folder,) = root.glob(f"runs/frozen_efficient/*/seed-{seed}")
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json")
    return {file.relative_to(root): file.read_bytes() for file in files}


def test_searches_and_embeddings_are_those_of_the_whole_model(smoke_workspace, tmp_path):
    workspace = open_workspace(str(smoke_workspace))
    place = Place(workspace)
    served = [run for run in runs_on_disk(workspace)[0] if run.name.startswith(("froz", "unt"))]
    assert sorted(run.name for run in served) == [
        *(["frozen_efficient"] * 2 + ["untouched", "untouched_start"])
    ]
    for run in served:
        source = place.source(run)
        kept, whole = source.load(), SentenceTransformer(str(source.folder), device="cpu")
        whole.max_seq_length = run.profile.encoder.max_seq_length
        (test,) = read_judged_sets("smoke-numpy", workspace.dataset("smoke-numpy"))
        texts = test.corpus.texts[:]
        found = encode_block(kept, texts, side="document", batch_size=64)
        expected = whole.encode(texts, convert_to_tensor=True)
        assert ((found - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()
        assert kept_base_of(kept).encoded == 0
        if run.holds_model:
            config = run.profile.evaluation
            model = load_model(run.folder / MODEL, device="cpu")
            ranking = rank_forms(model, test, config, progress=Silent())[PLAIN]
            file = run_file("smoke-numpy")
            write_run(ranking, tmp_path / run.label / file, tag=run.name)
            again = (tmp_path / run.label / file).read_bytes()
            assert again == (run.folder / "eval/smoke-numpy" / file).read_bytes()


def test_another_head_is_evaluated_without_the_base(ragcun, workspace):
    more = ("--set", "training.lambda_reg=0.2", "--seed", "1", "-w", workspace)
    assert ragcun("train", *FROZEN[:4], *more).code == 0
    before = outputs(workspace)
    for command in ("eval", "isotropy"):
        outcome = ragcun(command, *FROZEN, *more)
        assert outcome.code == 0, outcome.err
    assert outputs(workspace) == before


@pytest.mark.system
def test_seeds_give_the_same_bytes_in_any_order_and_after_a_kill(ragcun, smoke_workspace, tmp_path):
    """The second first, killed inside a block; then the first, of which nothing may be kept."""
    root = tmp_path / "ws"
    ignored = shutil.ignore_patterns("runs", "reports", "base-outputs")
    shutil.copytree(smoke_workspace, root, ignore=ignored)
    words = ["reproduce", *FROZEN, "-w", ".", "--seed", "2"]
    written = "cache/base-outputs/*/.*.npy.draft"
    done = subprocess.run(
        [sys.executable, KILLED, written, *words],
        cwd=root,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    outcome = ragcun("reproduce", *FROZEN, "-w", root, "--seed", "2")
    assert outcome.code == 0, outcome.err
    assert results(root, 2) == results(smoke_workspace, 2)
    shutil.rmtree(root / "cache/base-outputs")
    outcome = ragcun("reproduce", *FROZEN, "-w", root, "--seed", "1", "--cache-gb", "0.00001")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("ragcun reproduce --clean") == 1
    assert results(root, 1) == results(smoke_workspace, 1)
    assert 0 < sum((root / file).stat().st_size for file in outputs(root)) <= 10_000
