"""Processes that torchrun starts, at their end."""

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
