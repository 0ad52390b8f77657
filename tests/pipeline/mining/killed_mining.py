"""`killed_mining.py SET ROOT ROWS N`: mine, ROWS at a time, and die before the N + 1st; 0 lives."""

import os
import signal
import sys
from pathlib import Path

from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.mining import journal
from ragcun_cli.pipeline.mining.mine import mine
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import DataConfig

dataset, root = map(Path, sys.argv[1:3])
journal.ROWS_AT_ONCE, left = map(int, sys.argv[3:])


def die(event: str, arguments: tuple[object, ...]) -> None:
    global left
    if event == "open" and arguments[1] == "a" and str(arguments[0]).endswith("negatives.jsonl"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1


if left:
    sys.addaudithook(die)
mine(
    dataset,
    root / "draft",
    data=DataConfig(train="sea"),
    mining=MiningConfig(),
    seed=1,
    workspace=Workspace(root, root),
    progress=Silent(),
)
