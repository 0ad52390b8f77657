"""The whole road on the smoke plan, through the command line."""

import csv
import gzip
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from beir.retrieval.evaluation import EvaluateRetrieval
from sentence_transformers import SentenceTransformer

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.stages import runner
from ragcun_cli.spec.manifest import Stage

ROWS = [
    "untouched",
    "untouched_start",
    "bm25",
    "baseline_no_isotropy",
    "with_isotropy",
    "frozen_efficient",
    "standard_cosine",
    "spread_out",
]


@pytest.fixture
def workspace(smoke_workspace, tmp_path):
    """A copy of the reproduced workspace, to change."""
    copy = tmp_path / "copy"
    shutil.copytree(smoke_workspace, copy)
    return copy


def models(root):
    return {f: f.read_bytes() for f in sorted(root.glob("runs/**/*.safetensors"))}


def results(ragcun, root, *options):
    words = ("report", "--profile", "smoke", "--workspace", root, "--format", "json")
    outcome = ragcun(*words, *options)
    assert outcome.code == 0, outcome.err
    tables = json.loads(outcome.out)["tables"]
    return {table["key"]: table["rows"] for table in tables}


def pending(ragcun, root, *options):
    outcome = ragcun("reproduce", "--profile", "smoke", "-w", root, "--dry-run", "--json", *options)
    assert outcome.code == 0, outcome.err
    return [s["what"] for s in json.loads(outcome.out)["stages"] if s["state"] == "to run"]


def test_the_plan_gives_every_row_every_score(ragcun, smoke_workspace):
    tables = results(ragcun, smoke_workspace)
    assert [row["model"] for row in tables["results"]] == ROWS
    for row in tables["results"]:
        assert all(value is not None for value in row.values()), row
    reports = {file.suffix for file in smoke_workspace.glob("reports/smoke/report.*")}
    assert reports == {".tex", ".md", ".html", ".csv", ".json"}


def test_one_number_stands_in_the_scores_in_eval_and_in_the_report(ragcun, smoke_workspace):
    tables = json.loads(ragcun("report", "-w", smoke_workspace, "--json").out)["tables"]
    (table,) = [table for table in tables if table["key"] == "results"]
    rows = {row["model"]: row for row in table["rows"]}
    evaluated = json.loads(ragcun("eval", "-w", smoke_workspace, "--json").out)
    found = {(one["run"], one["dataset"]): one["metrics"]["ndcg@10"] for one in evaluated}
    compared = 0
    for name in ("untouched", "bm25", "untouched_start"):
        for dataset in ("smoke-numpy", "smoke-sklearn"):
            (file,) = smoke_workspace.glob(f"runs/{name}/*/eval/{dataset}/metrics.json")
            lines = (file.parent / "per_query.jsonl").read_text().splitlines()
            queries = [json.loads(line)["ndcg@10"] for line in lines]
            assert json.loads(file.read_text())["metrics"]["ndcg@10"] == found[name, dataset]
            assert math.fsum(queries) / len(queries) == found[name, dataset]
            assert rows[name][dataset] == found[name, dataset]
            compared += 1
    assert compared == 6


def test_a_second_reproduce_runs_nothing(ragcun, smoke_workspace):
    before = models(smoke_workspace)
    outcome = ragcun("reproduce", "--profile", "smoke", "--workspace", smoke_workspace)
    assert outcome.code == 0
    assert "nothing to do" in outcome.err
    assert models(smoke_workspace) == before


def test_a_moved_workspace_runs_nothing_again(ragcun, workspace, tmp_path):
    assert pending(ragcun, workspace) == []
    moved = workspace.rename(tmp_path / "elsewhere")
    assert pending(ragcun, moved) == []


def test_a_workspace_and_its_data_copied_apart_run_nothing_again(
    ragcun, smoke_workspace, tmp_path, monkeypatch
):
    without = shutil.ignore_patterns("data")
    shutil.copytree(smoke_workspace, tmp_path / "runs here", ignore=without)
    shutil.copytree(smoke_workspace / "data", tmp_path / "data there")
    monkeypatch.setenv("RAGCUN_DATA", str(tmp_path / "data there"))
    assert pending(ragcun, tmp_path / "runs here") == []
    outcome = ragcun("data", "get", "--profile", "smoke", "-w", tmp_path / "runs here")
    assert outcome.code == 0, outcome.err


def test_a_workspace_can_be_read_where_its_encoder_is_not(ragcun, workspace):
    shutil.rmtree(workspace / "data/encoders")
    assert pending(ragcun, workspace) == []
    assert [row["model"] for row in results(ragcun, workspace)["results"]] == ROWS


def test_another_base_of_the_same_name_makes_its_runs_stale(ragcun, workspace):
    tokenizer = workspace / "data/encoders/tiny/tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    assert any(what.startswith("train with_isotropy") for what in pending(ragcun, workspace))


def test_no_file_of_a_workspace_holds_its_path(smoke_workspace):
    files = [file for file in smoke_workspace.rglob("*") if file.is_file()]
    assert {"manifest.json", "run.json", "report.html"} <= {file.name for file in files}
    path = str(smoke_workspace).encode()
    holding = [file for file in files if path in _but_what_was_typed(file)]
    assert holding == []


def _but_what_was_typed(file):
    """Content of a file, of a manifest without the commands of its records."""
    if file.name != "manifest.json":
        return file.read_bytes()
    content = json.loads(file.read_text())
    for record in content["stages"].values():
        assert record["provenance"].pop("command").startswith("ragcun ")
    return json.dumps(content).encode()


def test_another_setting_leaves_the_first_run_alone(ragcun, workspace):
    before = {**models(workspace)}
    outcome = ragcun(
        *("train", "--profile", "smoke", "--seed", "1", "-w", workspace),
        *("--set", "training.batch_size=4", "--set", "training.max_steps=2"),
    )
    assert outcome.code == 0, outcome.err
    after = models(workspace)
    assert {file: after[file] for file in before} == before
    assert len(after) > len(before)
    assert pending(ragcun, workspace) == []
    shown = ragcun("report", "--all-runs", "-w", workspace, "--format", "csv").out
    assert "with_isotropy (training.batch_size=4" in shown


@pytest.mark.parametrize(
    ("stage", "kinds"),
    [
        (Stage.DATA, {"data", "mine", "train", "set", "search", "eval", "isotropy", "report"}),
        (Stage.MINE, {"mine", "train", "search", "eval", "isotropy", "report"}),
        (Stage.SEARCH, {"search", "eval", "report"}),
        (Stage.EVAL, {"eval", "report"}),
        (Stage.ISOTROPY, {"isotropy", "report"}),
        (Stage.REPORT, {"report"}),
    ],
)
def test_a_raised_numbers_version_makes_that_stage_and_its_followers_stale(
    ragcun, smoke_workspace, monkeypatch, stage, kinds
):
    monkeypatch.setitem(runner.NUMBERS_VERSIONS, stage, 99)
    assert {what.split()[0] for what in pending(ragcun, smoke_workspace)} == kinds


def test_adding_a_data_set_evaluates_that_one_alone(ragcun, smoke_workspace):
    more = '--set=evaluation.datasets=["smoke-numpy","smoke-sklearn","pydocs-networkx"]'
    stale = pending(ragcun, smoke_workspace, more)
    evaluations = {what.rpartition(" ")[2] for what in stale if what.startswith("eval")}
    assert evaluations == {"pydocs-networkx"}
    assert not any(what.startswith(("train", "mine")) for what in stale)


def test_a_saved_model_loads_and_encodes_without_ragcun(smoke_workspace, tmp_path):
    folder = next(smoke_workspace.glob("runs/with_isotropy/*/seed-1/model"))
    code = (
        "import sys, numpy\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'ragcun_cli': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(folder)!r}, device='cpu')\n"
        f"numpy.save({str(tmp_path / 'alone.npy')!r}, model.encode(['a graph', 'a matrix']))\n"
        "assert model.similarity_fn_name == 'euclidean'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    ours = SentenceTransformer(str(folder), device="cpu").encode(["a graph", "a matrix"])
    assert np.array_equal(np.load(tmp_path / "alone.npy"), ours)
    assert ours.shape == (2, 16)
    assert not np.allclose(np.linalg.norm(ours, axis=1), 1)


def test_run_files_give_the_reported_scores_to_beirs_evaluator(smoke_workspace):
    folder = next(smoke_workspace.glob("runs/with_isotropy/*/seed-1/eval/smoke-numpy"))
    run = {}
    lines = gzip.decompress((folder / "runs/smoke-numpy.trec.gz").read_bytes()).decode()
    for line in lines.splitlines():
        query, _, passage, rank, score, _ = line.split()
        run.setdefault(query, {})[passage] = float(score)
        assert int(rank) == len(run[query])
    qrels = beir.read_qrels(smoke_workspace / "data/datasets/smoke-numpy", "test")
    ndcg, average, recall, _ = EvaluateRetrieval.evaluate(qrels, run, [10, 100])
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert metrics["ndcg@10"] == pytest.approx(ndcg["NDCG@10"], abs=1e-5)
    assert metrics["recall@100"] == pytest.approx(recall["Recall@100"], abs=1e-5)
    assert metrics["map@100"] == pytest.approx(average["MAP@100"], abs=1e-5)


def starts(root, seed):
    """Of each arm: how many rows it trains on, and what a probe saw of the first before step 1."""
    found = []
    for name in ("baseline_no_isotropy", "with_isotropy", "spread_out"):
        (file,) = root.glob(f"runs/{name}/*/seed-{seed}/manifest.json")
        details = json.loads(file.read_text())["stages"]["train"]["details"]
        seen = {key: value for key, value in details["probe"].items() if "shares" not in key}
        del seen["carried_over"]  # shares are of the terms, and so of the arm
        found.append((details["rows"], seen))
    return found


def test_arms_of_one_seed_train_on_the_same_rows_from_the_same_start(smoke_workspace):
    (negatives,) = smoke_workspace.glob("negatives/smoke/*/seed-2/negatives.jsonl")
    first, *others = starts(smoke_workspace, 2)
    assert others == [first, first]
    assert first[0] == len(negatives.read_text().splitlines()) > 100
    assert first[1]["participation_ratio"] > 1
    assert starts(smoke_workspace, 1)[0] != first


def test_arms_of_one_seed_see_their_rows_in_the_same_order(smoke_workspace):
    """A loss of few small steps is that of the batches more than that of the term they add."""
    logs = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for name in ("baseline_no_isotropy", "with_isotropy", "spread_out")
        for file in smoke_workspace.glob(f"runs/{name}/*/seed-2/training_log.jsonl")
    ]
    losses = np.array([[entry["contrastive"] for entry in log[:3]] for log in logs])
    assert losses.shape == (3, 3)
    assert [entry["step"] for entry in logs[0][:3]] == [5, 10, 15]
    assert (np.ptp(losses, axis=0) < 0.02 * losses.min(0)).all()
    assert (np.ptp(losses, axis=1) > 0.2 * losses.min(1)).all()


@pytest.mark.parametrize("typed", [["a,b"], ["a", "b"], ["a", "--datasets", "b"]])
def test_lists_of_data_sets_can_be_typed_in_three_ways(ragcun, smoke_workspace, typed):
    names = {"a": "smoke-numpy", "b": "smoke-sklearn"}
    words = [",".join(names.get(part, part) for part in word.split(",")) for word in typed]
    outcome = ragcun("eval", "-w", smoke_workspace, "--json", "--datasets", *words)
    assert outcome.code == 0, outcome.err
    assert {row["dataset"] for row in json.loads(outcome.out)} == set(names.values())


def test_eval_and_report_act_on_every_finished_run_as_typed(ragcun, smoke_workspace, monkeypatch):
    monkeypatch.setenv("RAGCUN_WORKSPACE", str(smoke_workspace))
    outcome = ragcun("eval", "--datasets", "all", "--json")
    assert outcome.code == 0
    assert {row["run"].split(",")[0] for row in json.loads(outcome.out)} == set(ROWS)
    assert r"\toprule" in ragcun("report", "--format", "latex").out
    table = list(csv.DictReader(io.StringIO(ragcun("report", "--format", "csv").out)))
    rows = {row["row"] for row in table if not row["table"].startswith(("contrast", "licences"))}
    assert rows == set(ROWS)


def files_of_seed_1(root, *names):
    """Content of the files of these names that seed 1 and references have."""
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for folder in ("negatives", "runs")
        for file in (root / folder).rglob("*")
        if file.name in names and "seed-2" not in file.parts
    }


@pytest.mark.system
def test_reproducing_afresh_gives_the_same_results(ragcun, smoke_workspace, tmp_path):
    again = tmp_path / "again"
    # The data is shared, as RAGCUN_DATA allows; everything that computes runs anew.
    shutil.copytree(smoke_workspace / "data", again / "data")
    outcome = ragcun("reproduce", "--profile", "smoke", "--seed", "1", "-w", again)
    assert outcome.code == 0, outcome.err
    scores = files_of_seed_1(smoke_workspace, "per_query.jsonl")
    assert len(scores) == len(ROWS) * 2  # data sets
    assert files_of_seed_1(again, "per_query.jsonl") == scores
    table = results(ragcun, smoke_workspace, "--seed", "1")["results"]
    assert [row["model"] for row in table] == ROWS
    assert results(ragcun, again, "--seed", "1")["results"] == table


KILLED = Path(__file__).with_name("killed_command.py")


@pytest.mark.system
def test_a_killed_reproduce_goes_on_to_the_same_numbers(smoke_workspace, tmp_path):
    """Killed in the middle of what four stages write, then let run to its end."""
    root = tmp_path / "killed"
    shutil.copytree(smoke_workspace / "data/cache", root / "data/cache")
    words = ["reproduce", "-p", "smoke", "-w", ".", "--seed", "1"]
    words += ["--set", "training.resume_minutes=0"]
    options = {"cwd": root, "env": {**os.environ, "HF_HUB_OFFLINE": "1"}, "capture_output": True}
    for written, beside in (
        ("negatives/*/.mine.draft/details.jsonl", "negatives.jsonl"),
        (
            "runs/with_isotropy/*/.train.draft/resume/checkpoint-10/trainer_state.json",
            "../checkpoint-5/trainer_state.json",
        ),
        (
            "runs/baseline_no_isotropy/*/.search-*.draft/eval/*/runs/*.trec.gz",
            "../../../state/smoke-numpy.rank-1-of-1.npz",
        ),
        ("runs/with_isotropy/*/.isotropy.draft/isotropy.json", "recipe"),
    ):
        done = subprocess.run([sys.executable, KILLED, written, *words], **options)
        assert done.returncode == -signal.SIGKILL, done.stderr
        folder, _, name = written.replace("/*/", "/**/", 1).rpartition("/")
        (draft,) = root.glob(folder)
        assert (draft / beside).stat().st_size > 0
        assert not any(file.stat().st_size for file in draft.glob(name))
    subprocess.run([sys.executable, "-m", "ragcun_cli", *words], check=True, **options)
    names = ("negatives.jsonl", "details.jsonl", "model.safetensors")
    names += ("per_query.jsonl", "isotropy.json")
    found = files_of_seed_1(root, *names)
    assert {path.rpartition("/")[2] for path in found} == set(names)
    assert found == files_of_seed_1(smoke_workspace, *names)
