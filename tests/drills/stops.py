"""Stop `ragcun reproduce --profile smoke` again and again, and see that nothing is lost.

    python tests/drills/stops.py FOLDER --stops 200

SIGINT, SIGTERM, SIGHUP and SIGKILL in turn, each at a random moment after a stage of that attempt
began; each fifth in the second after a training began to save its model.
A plan that is finished is compared with one that was never stopped, and begun anew. After about an
hour on two cores (200 stops) FOLDER/stops.jsonl has a line for each stop. Killed itself, the drill
goes on where it was. Words after `--` are added to the command. With `--fake-gpus 2` the commands
that are stopped run with `--launcher gpus` on two devices of a made-up nvidia-smi, which are this
machine's CPU; what was never stopped is of `local` all the same. Exit 1 at the first of:

- a signal that did not end the command, or not within 30 seconds, or with another exit code;
- an attempt that could not go on from what the one before it left, or a traceback in it or in the
  log of a run that it started;
- a finished command that left a sign of life, or the name of who held a lock;
- a finished stage that ran again;
- results, scores of a query, isotropy, rankings, negatives, training logs or weights that differ by
  one byte from those of the uninterrupted run. Records of cost, time and provenance are no part
  of that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
LIMIT = 30.0
"""Seconds from a signal to the end of the command."""
LONGEST = 6.0
"""Seconds from the beginning of an attempt's first stage to its stop, at most."""
FAKE_GPUS = """#!/bin/sh
for index in $(seq 0 {last}); do echo "$index, GPU-$index, Fake, 15000, 16000"; done
"""
NOT_COMPARED = {"manifest.json"}
"""Cost and provenance of a stage."""
TIMED = {"cost", "serving"}
"""Tables of a report that hold seconds."""


class DrillError(Exception):
    """What must not happen."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=Path)
    words.add_argument("--stops", type=int, default=200)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--fake-gpus", type=int, default=0)
    given = [*sys.argv[1:], "--"]
    options = words.parse_args(given[: given.index("--")])
    options.more = given[given.index("--") + 1 : -1]
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        Drill(options).run()
    except DrillError as error:
        sys.exit(f"failed: {error}")


class Drill:
    """A run of it, in a folder from which it goes on."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.log = options.folder / "stops.jsonl"
        self.workspace = options.folder / "stopped"
        self.whole = options.folder / "whole"
        self.more = [*options.more]
        if options.fake_gpus:
            self.more += ["--launcher", "gpus"]
            fake_gpus(options.folder / "bin", options.fake_gpus)
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.stops: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def run(self) -> None:
        if not (self.options.folder / "whole.done").exists():
            shutil.rmtree(self.whole, ignore_errors=True)
            attempt = Attempt(self.whole, self.options.more)
            attempt.wait(3600)
            attempt.must_have_ended({0})
            (self.options.folder / "whole.done").touch()
        while len(self.stops) < self.options.stops:
            self.stop()
        attempt = Attempt(self.workspace, self.more)
        attempt.wait(3600)
        self.complete(attempt)
        took = [stop["seconds"] for stop in self.stops]
        ends = sum(stop["training_end"] for stop in self.stops)
        print(  # noqa: T201
            f"{len(took)} stops, {ends} of them where a training ended, the slowest in "
            f"{max(took):.1f} s; all that was finished is byte for byte that of a run without stops"
        )

    def stop(self) -> None:
        """One attempt: stopped, or at its end before that."""
        number = len(self.stops)
        drawn = random.Random(f"{self.options.seed} {number}")
        signum = SIGNALS[number % len(SIGNALS)]
        done = records(self.workspace)
        attempt = Attempt(self.workspace, self.more)
        training_end = number % 5 == 4
        attempt.begin()
        if training_end:
            attempt.come_to_the_end_of_a_training()
        attempt.wait(drawn.uniform(0, 1 if training_end else LONGEST))
        if attempt.ended():
            self.complete(attempt)
            return
        before = records(self.workspace)
        stage = attempt.stage
        sent = time.monotonic()
        if signum in (signal.SIGINT, signal.SIGKILL):  # a terminal asks all processes of a command
            os.killpg(attempt.process.pid, signum)
        else:
            os.kill(attempt.process.pid, signum)
        attempt.wait(LIMIT)
        seconds = time.monotonic() - sent
        attempt.must_have_ended({-signum if signum == signal.SIGKILL else 128 + signum})
        after = records(self.workspace)
        for earlier in (done, before):
            again = [name for name in earlier if earlier[name] != after.get(name)]
            if again:
                raise DrillError(f"finished, and ran again: {again}")
        line = {
            "number": number,
            "signal": signum.name,
            "stage": stage,
            "training_end": training_end,
            "seconds": round(seconds, 2),
        }
        self.stops.append(line)
        with self.log.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def complete(self, attempt: Attempt) -> None:
        """Compare what is finished with what was never stopped, and clear the place."""
        attempt.must_have_ended({0})
        whole, here = contents(self.whole), contents(self.workspace)
        if whole.keys() != here.keys():
            raise DrillError(f"other files: {sorted(whole.keys() ^ here.keys())}")
        differing = [name for name in whole if whole[name] != here[name]]
        if differing:
            raise DrillError(f"other bytes: {differing}")
        litter = [*self.workspace.rglob("*.holder"), *self.workspace.glob("running/*")]
        if litter:
            raise DrillError(f"left behind: {litter}")
        shutil.rmtree(self.workspace)


class Attempt:
    """A command that runs, and what it has said."""

    def __init__(self, workspace: Path, more: list[str]) -> None:
        self.workspace, self.began = workspace, time.time()
        self.logged = {log: log.stat().st_size for log in workspace.glob("logs/*.log")}
        command = [sys.executable, "-m", "ragcun_cli", "reproduce", "--profile", "smoke"]
        self.process = subprocess.Popen(
            [*command, "--workspace", str(workspace), *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            preexec_fn=heed_signals,
        )
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        self.lines = selectors.DefaultSelector()
        self.lines.register(self.process.stderr, selectors.EVENT_READ)
        self.said = b""
        self.stage = ""

    def ended(self) -> bool:
        return self.process.poll() is not None

    def read(self, seconds: float) -> None:
        """Read what is said within that time."""
        assert self.process.stderr is not None
        if self.lines.select(seconds):
            some = self.process.stderr.read()
            if not some:
                time.sleep(min(seconds, 0.05))
            self.said += some or b""
        last = []
        for said in (self.said, *self.logs().values()):
            lines = said.decode(errors="replace").splitlines()
            last += [line for line in lines if line.startswith("stage ")][-1:]
        self.stage = "; ".join(last)

    def logs(self) -> dict[str, bytes]:
        """What the runs said in this attempt that are commands of their own, by file."""
        found = {}
        for log in sorted(self.workspace.glob("logs/*.log")):
            with log.open("rb") as stream:
                stream.seek(self.logged.get(log, 0))
                found[log.name] = stream.read()
        return found

    def wait(self, seconds: float) -> None:
        """Until its end, or that long."""
        until = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < until:
            self.read(0.1)
        self.read(0)

    def begin(self) -> None:
        """Until a stage began."""
        while not self.ended() and not self.stage:
            self.read(0.1)

    def come_to_the_end_of_a_training(self) -> None:
        """Until one saves its model in this attempt, or has just done so."""
        training = ""
        while not self.ended() and not (training and (self.stage != training or self.saves())):
            training = self.stage if ": train " in self.stage else training
            self.read(0.02)

    def saves(self) -> bool:
        for model in self.workspace.glob("runs/*/*/*/.train.draft/model"):
            with contextlib.suppress(FileNotFoundError):  # just put in its place
                if model.stat().st_mtime > self.began:
                    return True
        return False

    def must_have_ended(self, codes: set[int]) -> None:
        """Fail unless it has, with one of these exit codes and without a traceback."""
        code = self.process.poll()
        if code is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        logs = self.logs()
        if code not in codes or any(b"Traceback" in said for said in (self.said, *logs.values())):
            ending = "did not end" if code is None else f"ended with {code}"
            told = "".join(f"\n{name}:\n{said.decode()}" for name, said in logs.items())
            said = f"{self.said.decode()}{told}"
            raise DrillError(f"{ending}, not with {codes}, at {self.stage}\n{said}")


def fake_gpus(folder: Path, count: int) -> None:
    """Have this process and those that it starts find a nvidia-smi with so many devices."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(FAKE_GPUS.format(last=count - 1))
    program.chmod(0o755)
    os.environ["PATH"] = f"{folder.absolute()}{os.pathsep}{os.environ['PATH']}"


def heed_signals() -> None:
    """What a shell starts in the background ignores some, and ragcun keeps to that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def records(workspace: Path) -> dict[str, Any]:
    """The records of finished stages, by manifest and key."""
    found = {}
    for file in workspace.rglob("manifest.json"):
        for key, record in json.loads(file.read_text())["stages"].items():
            found[f"{file.relative_to(workspace)} {key}"] = record
    return found


def contents(workspace: Path) -> dict[str, Any]:
    """What is compared, by file."""
    found: dict[str, Any] = {}
    for top in ("data", "negatives", "runs"):
        for file in (workspace / top).rglob("*"):
            name = file.relative_to(workspace)
            hidden = any(part.startswith(".") for part in name.parts)
            if file.is_file() and not hidden and file.name not in NOT_COMPARED:
                found[str(name)] = file.read_bytes()
    for file in workspace.glob("reports/*/report.json"):
        tables = json.loads(file.read_text())["tables"]
        found |= {
            f"{file.name} {table['key']}": table for table in tables if table["key"] not in TIMED
        }
    return found


if __name__ == "__main__":
    main()
