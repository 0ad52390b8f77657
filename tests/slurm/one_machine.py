"""A real Slurm on this machine: munged, slurmctld and slurmd, all that they keep in one folder.

    python tests/slurm/one_machine.py COMMAND …

runs a command, such as ``bash``, with a Slurm of its own of two processors, and ends the daemons
with it. As root, with Debian's packages slurm-wlm and munge; systemd and accounting are not needed.
A job that goes back into the queue waits there for 120 seconds by default; here for 3.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
REQUEUE_SECONDS = 5
"""That a requeued job waits; Slurm has it from the lifetime of a job's credential."""
KILL_SECONDS = 25
"""From the TERM of a job that is cancelled, or requeued from outside, to its KILL; 30 by default.
More than the 20 that a command of ragcun takes to stop at most."""

CONFIGURATION = """\
ClusterName=ragcun
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_seconds}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,sched_min_interval=100000,bf_interval=2
JobAcctGatherType=jobacct_gather/none
KillWait={kill_seconds}
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def is_possible() -> bool:
    """Whether this user may start one, and its programs are installed."""
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


@contextmanager
def one_machine(processors: int = 2) -> Iterator[Mapping[str, str]]:
    """A Slurm inside the block; gives the environment in which its commands find it."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as kept, ExitStack() as ends:
        folder = Path(kept)  # a short path: munged has a socket in it, which all may reach
        folder.chmod(0o711)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        file = folder / "slurm.conf"
        file.write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                folder=folder,
                controller_port=_free_port(),
                node_port=_free_port(),
                requeue_seconds=REQUEUE_SECONDS,
                kill_seconds=KILL_SECONDS,
                processors=processors,
            )
        )
        own = ("SLURM_", "SBATCH_", "SQUEUE_")  # of a job that this may run in
        there = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        environment = {**there, "SLURM_CONF": str(file)}
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        options = [f"--{name}={folder}/munge.{end}" for name, end in munge.items()]
        for command in (
            ["munged", "--foreground", *options, f"--seed-file={folder}/munge.seed"],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            ends.enter_context(_daemon(command, folder, environment))
            if command[0] == "munged":
                _wait_for(lambda: (folder / "munge.socket").exists(), folder)
        ends.callback(_cancel_all, environment)
        _wait_for(lambda: _said("sinfo", "-h", "-o", "%t", env=environment) == "idle", folder)
        yield environment


@contextmanager
def _daemon(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("w") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,  # a signal to a whole group is not for them
            preexec_fn=_end_with_parent,
        )
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, should this process be killed


def _cancel_all(environment: Mapping[str, str]) -> None:
    """End every job, and what they started; a node that still has some is given half a minute."""
    _said("scancel", "--user=root", env=environment)
    _said("scancel", "--user=root", "--signal=KILL", "--full", env=environment)
    until = time.monotonic() + KILL_SECONDS + 5
    while _said("squeue", "--noheader", env=environment) and time.monotonic() < until:
        time.sleep(0.2)


def _said(*command: str, env: Mapping[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    return done.stdout.strip()


def _wait_for(condition, folder: Path, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            logs = "\n".join(file.read_text() for file in folder.glob("*.out"))
            raise RuntimeError(f"Slurm did not start within {seconds} seconds:\n{logs}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    if not is_possible():
        sys.exit(f"needs root and {', '.join(PROGRAMS)}: apt-get install slurm-wlm munge")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with one_machine() as found:
        sys.exit(subprocess.run(sys.argv[1:], env=found, check=False).returncode)
