"""`reproduce --launcher gpus` on two devices of a made-up nvidia-smi: this machine's CPU."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "stops", Path(__file__).parents[1] / "drills" / "stops.py"
)
drill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drill)


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    drill.fake_gpus(tmp_path / "bin", 2)


def of_seed_1(root):
    found = drill.contents(root)
    # The last two are of the first experiment of the plan, too.
    leave = ("seed-2", "report", "/run.json", "model/README.md")
    return {name: found[name] for name in found if not any(part in name for part in leave)}


def signs(root):
    found = []
    for file in root.glob("running/*.json"):
        with drill.contextlib.suppress(OSError, ValueError):
            found.append(json.loads(file.read_text()))
    return found


@pytest.mark.system
@pytest.mark.usefixtures("two_gpus")
def test_two_runs_at_once_one_of_which_dies_end_with_the_bytes_of_local(
    ragcun, smoke_workspace, tmp_path
):
    root = tmp_path / "ws"
    shutil.copytree(smoke_workspace / "data", root / "data")
    arms = ("with_isotropy", "spread_out", "standard_cosine")
    part = [word for arm in arms for word in ("--experiment", arm)]
    words = ["reproduce", "--profile", "smoke", "--seed", "1", *part, "-w", str(root)]
    gpus = ["--launcher", "gpus"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ragcun_cli", *words, *gpus], stderr=subprocess.PIPE, text=True
    )
    killed, most, until = None, 0, time.monotonic() + 300
    while process.poll() is None and time.monotonic() < until:
        found = [sign for sign in signs(root) if sign["pid"] != process.pid]
        training = [sign for sign in found if sign["label"].startswith("train ")]
        most = max(most, len({sign["pid"] for sign in training}))
        if killed is None and len(training) > 1:
            killed = training[0]
            os.kill(killed["pid"], signal.SIGKILL)
        time.sleep(0.02)
    said = process.communicate()[1]
    assert process.returncode == 1, said
    assert most == 2
    name = killed["label"].removeprefix("train ").replace(", seed ", "-")
    assert f"failed: {name}: it was ended by SIGKILL" in said
    assert f"not done: {name.replace('-1', ':1')}; for just those: ragcun reproduce" in said
    assert f"Error: 1 job failed:\n  {name}: it was ended by SIGKILL" in said
    for gpu in (0, 1):
        assert f"begins on GPU {gpu}; what it says: {root}/logs/" in said
    assert "bm25 begins beside the GPUs" in said
    done = drill.records(root)
    assert sum(key.endswith(" isotropy") and "seed-1" in key for key in done) == 2

    outcome = ragcun(*words, *gpus, "--gpus", "1")
    assert outcome.code == 0, outcome.err
    begun = [line for line in outcome.err.splitlines() if " begins " in line]
    assert [line.partition(";")[0] for line in begun] == [f"{name} begins on GPU 1"]
    after = drill.records(root)
    assert {key: after[key] for key in done if "report" not in key} == {
        key: done[key] for key in done if "report" not in key
    }
    here, there = of_seed_1(root), of_seed_1(smoke_workspace)
    others = ("baseline_no_isotropy", "frozen_efficient")
    assert here == {
        name: content
        for name, content in there.items()
        if not any(f"runs/{other}/" in name for other in others)
    }
    tables = {}
    for folder in (root, smoke_workspace):
        shown = ragcun("report", *words[1:-1], folder, "--format", "json")
        assert shown.code == 0, shown.err
        found = json.loads(shown.out)["tables"]
        tables[folder] = [table for table in found if table["key"] not in drill.TIMED]
    assert tables[root] == tables[smoke_workspace]
    assert {"results", "contrasts"} <= {table["key"] for table in tables[root]}
    assert not [*root.rglob("*.holder"), *root.glob("running/*")]
    logs = "".join(file.read_text() for file in root.glob("logs/*.log"))
    assert "Traceback" not in logs
    assert "nothing to do" in ragcun(*words, *gpus).err


@pytest.mark.usefixtures("two_gpus")
def test_what_is_wrong_is_said_before_any_run_begins(ragcun, tmp_path, monkeypatch):
    words = ("reproduce", "-p", "smoke", "--launcher", "gpus", "-w", tmp_path / "ws")
    outcome = ragcun(*words, "--gpus", "0,5")
    assert outcome.code == 2
    assert "there is no GPU '5'; these are: 0, 1" in outcome.err
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = ragcun(*words)
    assert outcome.code == 2
    assert "nvidia-smi names no GPU of this machine" in outcome.err
    assert "Hint: --launcher local" in outcome.err
    outcome = ragcun(*words[:3], "-w", tmp_path / "ws", "--gpus", "0")
    assert outcome.code == 2
    assert "Hint: --launcher gpus --gpus 0" in outcome.err
    assert not (tmp_path / "ws").exists()
