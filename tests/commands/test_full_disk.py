"""A disk that fills up while a plan is reproduced, and room that is made on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drills.stops import TIMED

SCRIPT = Path(__file__).with_name("full_disk_command.py")
MEGABYTE = 1_000_000
STEPS = (1, 5, 7)
"""Megabytes of the disk, one command after the other; the plan needs some 16."""


@pytest.fixture
def disk(tmp_path):
    """Call it with a size for how ragcun is started on a disk of that size: tmpfs, or made up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    real = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def sized(size):
        if not real:
            return folder, [sys.executable, SCRIPT, folder, str(size)]
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
        return folder, [sys.executable, "-m", "ragcun_cli"]

    yield sized
    if real:
        subprocess.run(["umount", "-l", folder], check=True)


def tables(workspace):
    found = json.loads((workspace / "reports/smoke/report.json").read_text())["tables"]
    return {table["key"]: table for table in found if table["key"] not in TIMED}


@pytest.mark.system
def test_a_plan_on_a_full_disk_stops_with_one_error_and_goes_on_when_there_is_room(
    disk, smoke_workspace
):
    told = os.environ | {"HF_HUB_OFFLINE": "1"}
    failed = []
    for size in STEPS:
        folder, ragcun = disk(size * MEGABYTE)
        command = [*ragcun, "reproduce", "-p", "smoke", "-w", folder / "ws", "--yes"]
        done = subprocess.run(command, capture_output=True, text=True, env=told, check=False)
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        sys.stdout.write(f"{size} MB: {error}\n")
        hint = done.stderr.splitlines()[-1]
        assert done.returncode == 1, done.stderr
        assert "No space left on device" in error or "could not read or write its files" in error
        assert str(folder) in error + hint
        assert hint.startswith(("Hint: df -h ", "Hint: ls -ld "))
        assert "Traceback" not in done.stderr
        failed.append(error.partition(" could not")[0])
    assert len(set(failed)) == len(STEPS)
    folder, ragcun = disk(300 * MEGABYTE)
    command = [*ragcun, "reproduce", "-p", "smoke", "-w", folder / "ws", "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, env=told, check=False)
    assert done.returncode == 0, done.stderr
    assert tables(folder / "ws") == tables(smoke_workspace)
    left = [path for path in (folder / "ws").rglob(".*.draft") if path.is_dir()]
    assert left == []
