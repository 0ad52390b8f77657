"""Jobs on a real Slurm of this machine; `python tests/drills/slurm.py` has the long ones."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from one_machine import PROGRAMS, one_machine

from ragcun_cli.pipeline.reproduce.launch import slurm
from ragcun_cli.pipeline.reproduce.launch.jobs import RunJob
from ragcun_cli.pipeline.reproduce.launch.slurm import SlurmLauncher
from ragcun_cli.spec.launch_config import LaunchConfig
from ragcun_cli.spec.paths import Workspace

pytestmark = [
    pytest.mark.system,
    pytest.mark.needs("root", *(f"program:{name}" for name in PROGRAMS)),
]

DRILL = Path(__file__).parents[1] / "drills/slurm.py"
SMOKE = ("reproduce", "--profile", "smoke", "--yes", "--workspace", "w")


def test_smoke_ends_as_without_a_cluster_though_a_job_is_put_back_and_one_asked_to_stop(tmp_path):
    done = subprocess.run(
        [sys.executable, DRILL, tmp_path, "--stops", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 stops, ")
    assert len((tmp_path / "jobs.jsonl").read_text().splitlines()) == 2


@pytest.fixture(scope="module")
def cluster():
    with one_machine() as environment:
        yield environment["SLURM_CONF"]


@pytest.fixture
def launcher(cluster, tmp_path, monkeypatch):
    """In a folder with an odd name."""
    folder = tmp_path / "it's a $folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SLURM_CONF", cluster)
    workspace = Workspace(folder / "w", folder / "w/data")
    return SlurmLauncher(workspace, "smoke", LaunchConfig(gpus_per_run=0, wait_minutes=0.05))


def wait_for(condition):
    until = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.2)
    return found


def state_of(number):
    shown = subprocess.run(
        ["scontrol", "show", "job", number], capture_output=True, text=True, check=True
    )
    return dict(word.split("=", 1) for word in shown.stdout.split() if "=" in word)


def test_a_job_waits_for_its_input_gives_up_and_lets_others_begin(launcher, monkeypatch):
    monkeypatch.setattr(slurm, "WAITS", 1)
    report = RunJob("report", (*SMOKE, "--no-prerequisites", "--run", "report"), (), False)
    after = RunJob("after", ("--version",), ("report",), on_gpu=False)
    ids = launcher.launch([report, after]).submitted
    assert launcher.launch([report, after]).submitted == ids
    assert launcher.queued()["after"].reason == "Dependency"
    wait_for(lambda: not launcher.queued())
    ended = state_of(ids["report"])
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "1:0", "1")
    said = (launcher.folder / "report.log").read_text()
    assert said.count("earlier stages are missing or out of date") == 2
    assert said.endswith("report has waited 1 times for what is named above, and gives up.\n")
    assert state_of(ids["after"])["JobState"] == "COMPLETED"
    assert (launcher.folder / "after.log").read_text().startswith("ragcun ")


def test_a_job_that_a_person_cancels_is_not_put_back(launcher):
    number = launcher.launch([RunJob("all", SMOKE, (), on_gpu=True)]).submitted["all"]
    log = launcher.folder / "all.log"
    wait_for(lambda: log.exists() and "stage " in log.read_text())
    subprocess.run(["scancel", number], check=True)
    wait_for(lambda: state_of(number)["JobState"] == "CANCELLED")
    assert not launcher.queued()
    assert "stopped; what was finished is kept" in log.read_text()
    assert "requeue" not in log.read_text()


def test_a_job_in_the_queue_waits_for_what_is_submitted_later(launcher):
    node = ["scontrol", "update", f"NodeName={os.uname().nodename.partition('.')[0]}"]
    subprocess.run([*node, "State=DRAIN", "Reason=test"], check=True)
    try:
        jobs = [RunJob(name, ("--version",), (), on_gpu=False) for name in ("a", "b")]
        last = RunJob("report", ("--version",), ("a", "b"), on_gpu=False)
        launcher.launch([jobs[0], last])
        ids = launcher.launch([*jobs, last]).submitted
        waits = state_of(ids["report"])["Dependency"]
    finally:
        subprocess.run([*node, "State=RESUME"], check=True)
    assert waits == f"afterany:{ids['a']}(unfulfilled),afterany:{ids['b']}(unfulfilled)"
    wait_for(lambda: not launcher.queued())
    assert state_of(ids["report"])["JobState"] == "COMPLETED"
