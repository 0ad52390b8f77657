"""Runs of a plan that fail, runs that are named, stages that are walked to, and status."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from transformers import Trainer

PLAN = """
name = "two"
references = ["untouched", "bm25"]
experiments = ["wild", "with_isotropy"]
seeds = [1]

[overrides]
demonstration = true
encoder = { base = "ragcun/tiny", max_seq_length = 32, output_dim = 16 }
data.train = "smoke"
evaluation = { datasets = ["smoke-numpy"], depth = 100 }

[overrides.training]
batch_size = 8
max_steps = 4
warmup_steps = 0.1
precision = "fp32"
sigreg.slices = 64
logging_steps = 1
probe_texts = 64
"""
WILD = 'extends = "with_isotropy"\nname = "wild"\n[training]\nlambda_reg = {}\n'


@pytest.fixture
def two(smoke_workspace, tmp_path, monkeypatch):
    """A workspace with data and negatives, beside a plan of that name with an arm that diverges."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "two.toml").write_text(PLAN)
    (tmp_path / "profiles" / "wild.toml").write_text(WILD.format("1e38"))
    root = tmp_path / "ws"
    for name in ("data", "negatives"):
        shutil.copytree(smoke_workspace / name, root / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAGCUN_WORKSPACE", str(root))
    return root


def recorded(root):
    """Which kinds of stages each run has a record of."""
    found = {}
    for file in root.glob("runs/**/manifest.json"):
        kinds = {key.partition("/")[0] for key in json.loads(file.read_text())["stages"]}
        found[file.relative_to(root / "runs").parts[0]] = kinds - {"run"}
    return found


def results(root):
    """The rows of the table of results in the report that was written, by model."""
    tables = json.loads((root / "reports/two/report.json").read_text())["tables"]
    (table,) = [table for table in tables if table["key"] == "results"]
    return {row["model"]: row for row in table["rows"]}


WHOLE = {"train", "search", "eval", "isotropy"}


def test_a_run_that_fails_stops_no_other_and_the_end_says_how_to_run_it_alone(ragcun, two):
    outcome = ragcun("reproduce", "--profile", "two")
    assert outcome.code == 1
    assert recorded(two) == {
        "untouched": WHOLE,
        "bm25": WHOLE - {"isotropy"},
        "with_isotropy": WHOLE,
    }
    why = "training wild, seed 1 stopped: the norm of the gradient is not finite at step 1"
    assert f"failed: train wild, seed 1: {why}" in outcome.err
    assert f"Error: {why}" in outcome.err
    assert "Traceback" not in outcome.err
    alone = "ragcun reproduce --profile two --run wild:1 --run report"
    assert f"not done: wild:1; for just those: {alone}\n" in outcome.err
    rows = results(two)
    assert rows["with_isotropy"]["smoke-numpy"] > 0
    assert rows["wild"]["smoke-numpy"] is None

    status = json.loads(ragcun("reproduce", "-p", "two", "--status", "--json").out)
    by_run = {one["run"]: one for one in status}
    assert by_run["wild:1"]["state"] == "failed"
    assert by_run["wild:1"]["why"].startswith(f"'train wild, seed 1' failed: {why}")
    assert {by_run[name]["state"] for name in ("untouched", "with_isotropy:1")} == {"finished"}

    blocked = ragcun(*alone.split()[1:3], "two", "--run", "report", "--no-prerequisites")
    assert blocked.code == 1
    assert why in blocked.err

    (two.parent / "profiles" / "wild.toml").write_text(WILD.format("0.5"))
    mended = ragcun(*alone.split()[1:])
    assert mended.code == 0, mended.err
    assert recorded(two)["wild"] == WHOLE
    stages = [line for line in mended.err.splitlines() if line.startswith("stage ")]
    assert len(stages) == 4  # train, search, eval and isotropy of that run
    assert all("wild" in line for line in stages)
    assert all(row["smoke-numpy"] is not None for row in results(two).values())
    assert "nothing to do" in ragcun("reproduce", "--profile", "two").err


def test_a_bug_in_one_stage_keeps_its_traceback_and_a_full_disk_ends_all(ragcun, two, monkeypatch):
    (two.parent / "profiles" / "wild.toml").write_text(WILD.format("0.5"))
    trained = Trainer.train

    def wild_has_a_bug(self, *args, **more):
        if "/wild/" in str(self.args.output_dir):
            raise KeyError("a bug")
        return trained(self, *args, **more)

    monkeypatch.setattr(Trainer, "train", wild_has_a_bug)
    with pytest.raises(KeyError, match="a bug"):
        ragcun("reproduce", "--profile", "two", "--until", "train")
    assert recorded(two)["with_isotropy"] == {"train"}
    assert "wild" not in recorded(two)

    def full(self, *args, **more):
        raise OSError(28, "No space left on device")

    shutil.rmtree(two / "runs/with_isotropy")
    monkeypatch.setattr(Trainer, "train", full)
    outcome = ragcun("reproduce", "--profile", "two")
    assert outcome.code == 1
    assert "No space left on device" in outcome.err
    assert "Hint: df -h" in outcome.err
    assert "train with_isotropy" not in outcome.err
    assert not (two / "reports").exists()


def keys(ragcun):
    outcome = ragcun("reproduce", "--profile", "two", "--status", "--json")
    assert outcome.code == 0, outcome.err
    return {one["run"]: one for one in json.loads(outcome.out)}


def test_runs_are_named_by_their_keys_and_walked_as_far_as_is_said(ragcun, two):
    (two.parent / "profiles" / "wild.toml").write_text(WILD.format("0.5"))
    assert list(keys(ragcun)) == [
        *("data and negatives", "untouched", "bm25", "wild:1", "with_isotropy:1", "report")
    ]
    words = ("reproduce", "--profile", "two")
    for unknown in ("wild", "wild:2", "untouched_start", "wild:1,bm25", "", "wild:trial-1"):
        outcome = ragcun(*words, "--run", unknown)
        assert outcome.code == 2
        there = "untouched, bm25, wild:1, with_isotropy:1, report"
        assert f"'{unknown}' is no run of two; these are: {there}" in outcome.err
        assert "Hint: ragcun reproduce --profile two --dry-run" in outcome.err
    assert ragcun(*words, "--until", "tested").code == 2
    assert ragcun(*words, "--gpus", "0").code == 2
    assert not (two / "runs").exists()
    assert not (two / "attempts.jsonl").exists()

    for run in ("bm25", "untouched"):
        outcome = ragcun(*words, "--run", run)
        assert outcome.code == 0, outcome.err
    assert recorded(two) == {"bm25": WHOLE - {"isotropy"}, "untouched": WHOLE}
    assert not (two / "reports").exists()
    for until, kinds in (
        ("data", None),
        ("mine", None),
        ("train", {"train"}),
        ("search", {"train", "search"}),
        ("eval", {"train", "search", "eval"}),
        ("isotropy", WHOLE),
    ):
        outcome = ragcun(*words, "--run", "with_isotropy:1", "--until", until)
        assert outcome.code == 0, outcome.err
        assert recorded(two).get("with_isotropy") == kinds
        assert "not done" not in outcome.err
    assert "wild" not in recorded(two)

    status = keys(ragcun)
    assert {name: one["state"] for name, one in status.items()} == {
        "data and negatives": "finished",
        "untouched": "finished",
        "bm25": "finished",
        "wild:1": "waiting",
        "with_isotropy:1": "finished",
        "report": "waiting",
    }
    assert (status["wild:1"]["finished"], status["wild:1"]["stages"]) == (0, 4)
    blocked = ragcun(*words, "--run", "report", "--no-prerequisites")
    assert blocked.code == 75
    assert "train wild, seed 1" in blocked.err
    assert not (two / "reports").exists()
    outcome = ragcun(*words, "--run", "report")
    assert outcome.code == 0, outcome.err
    assert results(two)["with_isotropy"]["smoke-numpy"] is not None
    assert results(two)["wild"]["smoke-numpy"] is None


def test_what_another_command_is_to_make_blocks_before_anything_is_written(ragcun, tmp_path):
    words = ("reproduce", "--profile", "smoke", "-w", tmp_path / "ws", "--no-prerequisites")
    for run in ("with_isotropy:1", "untouched"):
        outcome = ragcun(*words, "--run", run)
        assert outcome.code == 75
        assert "earlier stages are missing or out of date: " in outcome.err
        assert "Hint: the same command without --no-prerequisites" in outcome.err
    assert not (tmp_path / "ws").exists()


def test_the_status_of_an_empty_workspace_says_that_all_waits_and_makes_nothing(ragcun, tmp_path):
    outcome = ragcun("reproduce", "-p", "smoke", "-w", tmp_path / "ws", "--status", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert len(found) == 15
    assert {(one["state"], one["finished"], one["why"], one["now"]) for one in found} == {
        ("waiting", 0, None, None)
    }
    assert not (tmp_path / "ws").exists()


def test_the_status_of_a_finished_workspace_and_of_a_copy_that_is_not_ours_to_write(
    ragcun, smoke_workspace, tmp_path, unprivileged
):
    words = ("reproduce", "-p", "smoke", "--status", "-w")
    copy = shutil.copytree(smoke_workspace, tmp_path / "copy")
    copy.chmod(0o555)
    with unprivileged():
        outcomes = [ragcun(*words, root, "--json") for root in (smoke_workspace, copy)]
    copy.chmod(0o755)
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
        found = json.loads(outcome.out)
        assert {(one["state"], one["stages"] - one["finished"]) for one in found} == {
            ("finished", 0)
        }
        assert {one["seconds_left"] for one in found} == {0}
    shown = ragcun(*words, copy)
    assert (shown.code, shown.out.count("finished")) == (0, 15)


@pytest.mark.system
def test_the_status_of_a_run_that_trains_and_of_one_that_was_killed(ragcun, two):
    """From another process; the training is slowed down by its number of steps alone."""
    (two.parent / "profiles" / "wild.toml").write_text(WILD.format("0.5"))
    sets = ("--set", "training.max_steps=20000", "--set", "training.epochs=2000")
    words = ("reproduce", "--profile", "two", *sets)
    began = time.time()
    command = [sys.executable, "-m", "ragcun_cli", *words, "--run", "wild:1"]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    try:
        found = {}
        while time.time() < began + 120 and found.get("loss") is None:
            time.sleep(1)
            outcome = ragcun(*words, "--status", "--json")
            found = {one["run"]: one for one in json.loads(outcome.out)}["wild:1"]
        assert found["state"] == "running"
        assert found["now"] == "train wild, seed 1"
        assert 0 < found["done"] < found["total"] == 20000
        assert found["unit"] == "steps"
        assert found["rate"] > 0
        assert found["process"] == process.pid
        assert found["host"] == os.uname().nodename
        assert began - 1 < found["since"] < time.time()
        assert found["seconds_left"] > (20000 - found["done"]) / found["rate"] * 0.99
        shown = ragcun(*words, "--status").out
        assert f"{found['host']}, process {process.pid}" in shown
    finally:
        process.kill()
        process.wait()
    found = {one["run"]: one for one in json.loads(ragcun(*words, "--status", "--json").out)}
    assert found["wild:1"]["state"] == "waiting"
    assert found["wild:1"]["host"] is None
    assert not list((two / "running").glob("*.json"))


@pytest.mark.system
def test_two_commands_on_one_workspace_at_once_both_end_well(two):
    (two.parent / "profiles" / "wild.toml").write_text(WILD.format("0.5"))
    sets = ("--set", "training.max_steps=60")
    command = [sys.executable, "-m", "ragcun_cli", "reproduce", "--profile", "two", *sets]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=os.environ, **options) for _ in range(2)]
    said = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    waited = [err for _, err in said if "waiting for 'train " in err]
    assert waited
    for err in waited:
        line = next(line for line in err.splitlines() if line.startswith("waiting for 'train "))
        (other,) = {process.pid for process in both if f"process {process.pid} on " in line}
        assert f"process {other} on {os.uname().nodename} has held it since 2" in line
    assert not list(two.rglob("*.holder"))
    assert not (two / "running").exists()
