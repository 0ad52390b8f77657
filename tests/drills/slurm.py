"""Stop the jobs of `reproduce --profile smoke --launcher slurm`, and see that nothing is lost.

    python tests/drills/slurm.py FOLDER --stops 10
    python tests/drills/slurm.py FOLDER --limit 5

As root, on a Slurm that it starts (tests/slurm/one_machine.py). At a random moment one of the
running jobs is put back by somebody else (``scontrol requeue``), asked to stop (``scancel
--signal=TERM --full``), cancelled (``scancel --signal=KILL --full``), or has its command killed, in
turn; after the last two the same `reproduce` submits what is missing. With ``--limit N`` a job
has two minutes, and is asked to stop N seconds after it began, to half a minute. Words after
``--`` are added to the command. FOLDER/jobs.jsonl gets a line for each stop. Exit 1 where

- a job that was put back or asked to stop does not start again;
- a job is in the queue twice;
- a finished stage runs again;
- what is there at the end is not, byte for byte, what `reproduce` makes without a cluster (records
  of cost and provenance apart).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from stops import DrillError, contents, records

sys.path.append(str(Path(__file__).parents[1] / "slurm"))
from one_machine import one_machine

KINDS = ("requeue", "TERM", "KILL", "killed")
PATIENCE = 1800
"""Seconds for a queue to become empty."""
LONGEST = 8.0
"""Seconds that a job runs before it is stopped, at most."""
LAUNCH = """\
gpus_per_run = 0
wait_minutes = 0.1
"""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=Path)
    words.add_argument("--stops", type=int, default=0)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--limit", type=int)
    given = [*sys.argv[1:], "--"]
    options = words.parse_args(given[: given.index("--")])
    options.more = given[given.index("--") + 1 : -1]
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    limit = f'time = "2"\nsignal_seconds = {120 - options.limit}\n' if options.limit else ""
    Path("launch.toml").write_text(LAUNCH + limit)
    try:
        with one_machine() as found:
            os.environ["SLURM_CONF"] = found["SLURM_CONF"]
            Drill(options).run()
    except DrillError as error:
        sys.exit(f"failed: {error}")


class Drill:
    """A run of it, in the current folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.workspace = Path("jobs")
        self.drawn = random.Random(options.seed)
        self.starts: dict[str, int] = {}
        self.done: dict[str, Any] = {}

    def run(self) -> None:
        if not Path("whole.done").exists():
            shutil.rmtree("whole", ignore_errors=True)
            self.reproduce("whole")
            Path("whole.done").touch()
        shutil.rmtree(self.workspace, ignore_errors=True)
        began = time.monotonic()
        self.submit()
        for number in range(self.options.stops):
            self.stop(KINDS[number % len(KINDS)])
        self.wait_for(lambda: not self.jobs())
        seconds = time.monotonic() - began
        if "submitted" in self.submit():
            raise DrillError(f"jobs ended, and something is missing:\n{self.logs()}")
        self.look()
        whole, here = contents(Path("whole")), contents(self.workspace)
        if whole.keys() != here.keys():
            raise DrillError(f"other files: {sorted(whole.keys() ^ here.keys())}")
        if differing := [name for name in whole if whole[name] != here[name]]:
            raise DrillError(f"other bytes: {differing}")
        again = self.logs().count("CANCELLED")
        print(  # noqa: T201
            f"{self.options.stops} stops, jobs ended {again} times before their end; after "
            f"{seconds:.0f} s all of {len(whole)} files and tables is byte for byte that of a run "
            "without a cluster"
        )

    def stop(self, kind: str) -> None:
        """Stop one running job."""
        running: dict[str, str] = {}

        def some_run() -> bool:
            running.update({i: name for i, name, state in self.jobs() if state == "RUNNING"})
            return bool(running)

        self.wait_for(some_run)
        time.sleep(self.drawn.uniform(0, LONGEST))
        running.clear()
        self.wait_for(some_run)
        job = self.drawn.choice(sorted(running))
        self.look()
        line = {"kind": kind, "job": running[job], "starts": self.started(job)}
        if kind == "requeue":
            said("scontrol", "requeue", job)
        elif kind == "killed":
            for process in commands_of(job):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        else:
            said("scancel", f"--signal={kind}", "--full", job)
        if kind in ("TERM", "requeue"):
            self.wait_for(lambda: self.started(job) > line["starts"] or self.ended_well(job))
            line["again"] = self.started(job)
        else:
            self.wait_for(
                lambda: job not in [i for i, _, state in self.jobs() if state != "COMPLETING"]
            )
            self.submit()
        with Path("jobs.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        self.look()

    def submit(self) -> str:
        """The same command again, which submits what is missing."""
        told = self.reproduce(str(self.workspace), "--launcher", "slurm")
        names = [name for _, name, _ in self.jobs()]
        if len(set(names)) < len(names):
            raise DrillError(f"in the queue twice: {sorted(names)}")
        return told

    def reproduce(self, workspace: str, *more: str) -> str:
        command = [sys.executable, "-m", "ragcun_cli", "reproduce", "--profile", "smoke", "--yes"]
        done = subprocess.run(
            [*command, "--workspace", workspace, *self.options.more, *more],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DrillError(f"the command ended with {done.returncode}\n{done.stderr}")
        return done.stderr

    def look(self) -> None:
        """What was finished when it was last looked at stays so."""
        now = records(self.workspace)
        if again := [name for name in self.done if self.done[name] != now.get(name)]:
            raise DrillError(f"finished, and ran again: {again}")
        self.done = now

    def jobs(self) -> list[tuple[str, str, str]]:
        """Those in the queue: number, name, state."""
        lines = said("squeue", "--noheader", "--format=%i %j %T").splitlines()
        return [tuple(line.split()) for line in lines]  # type: ignore[misc]

    def started(self, job: str) -> int:
        """How often it was put back, and has started again."""
        shown = said("scontrol", "show", "job", job)
        waits = "JobState=PENDING" in shown or "JobState=COMPLETING" in shown
        return int(re.findall(r"Restarts=(\d+)", shown)[0]) - waits

    def ended_well(self, job: str) -> bool:
        return "JobState=COMPLETED" in said("scontrol", "show", "job", job)

    def wait_for(self, condition: Any) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until:
                raise DrillError(f"nothing happened in {PATIENCE} s: {self.jobs()}\n{self.logs()}")
            time.sleep(0.3)

    def logs(self) -> str:
        files = sorted(self.workspace.glob("slurm/*/*.log"))
        return "\n".join(f"{file.stem}:\n{file.read_text()}" for file in files)


def commands_of(job: str) -> list[int]:
    """The processes of ragcun that a job has started, by the environment that Slurm gave them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            own = f"SLURM_JOB_ID={job}\0".encode() in (folder / "environ").read_bytes()
            if own and b"ragcun_cli" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
