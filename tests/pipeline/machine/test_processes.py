"""Processes that torchrun starts, at their end."""

import signal
import subprocess
import sys

SCRIPT = """
import os
import torch.distributed as dist
from ragcun_cli.pipeline.machine import processes

before = len(os.listdir("/proc/self/task"))
if processes.rank():
    processes.follow()
else:
    with processes.leading():
        pass
    print(len(os.listdir("/proc/self/task")) - before, dist.is_initialized())
"""


def test_no_thread_of_gloo_outlives_the_work(tmp_path):
    """One that does aborts the process at its exit, now and then, after all is done."""
    script = tmp_path / "work.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--standalone", script),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "False"]


TOGETHER = """
import os
import signal
import sys
from pathlib import Path
from ragcun_cli.pipeline.machine import processes, stops


def work():
    step = 0
    try:
        for step in range(10_000):
            if step == 3 and processes.rank() == 1:
                signal.raise_signal(signal.SIGTERM)
            stops.safe_point()  # of one process alone: passed
            processes.stop_together()
    finally:
        Path(sys.argv[1], str(processes.rank())).write_text(f"{step} {stops.asked()}")


with stops.heeded():
    if processes.rank():
        processes.follow()
    else:
        with processes.leading():
            try:
                with processes.joined(work, ends=ValueError):
                    work()
            except stops.Stopped:
                print("stopped")
"""


def test_all_processes_stop_at_the_step_at_which_one_was_asked_to(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(TOGETHER)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--standalone", script, tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "stopped\n", done.stderr
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == f"3 {signal.SIGTERM:d}"
