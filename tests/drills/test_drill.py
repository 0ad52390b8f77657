"""A short drill; `python tests/drills/stops.py` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.system
def test_a_plan_that_is_stopped_eight_times_ends_as_one_that_never_was(tmp_path):
    drill = Path(__file__).with_name("stops.py")
    words = ["--stops", "8", "--", "--seed", "1", "--experiment", "with_isotropy"]
    done = subprocess.run(
        [sys.executable, drill, tmp_path, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("8 stops, 1 of them where a training ended")


@pytest.mark.system
def test_runs_on_two_gpus_that_are_stopped_end_as_those_that_never_were_on_any(tmp_path):
    drill = Path(__file__).with_name("stops.py")
    words = ["--stops", "4", "--fake-gpus", "2", "--", "--seed", "1"]
    arms = ["--experiment", "with_isotropy", "--experiment", "spread_out"]
    done = subprocess.run(
        [sys.executable, drill, tmp_path, *words, *arms],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("4 stops, 0 of them where a training ended")
