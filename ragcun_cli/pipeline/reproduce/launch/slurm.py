"""Slurm: a readable script for each job, plain `sbatch`, and nothing that has to stay alive.

What a job needs is found out by its command, which knows what is current. So a job waits for the
end of others however they end (``afterany``), and one whose input is not there yet goes back into
the queue. A job that is stopped, for a time limit or for another's sake, does so, too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from ragcun_cli.pipeline.reproduce.launch.jobs import Launched, RunJob
from ragcun_cli.spec.errors import BlockedError, RagcunError, WorkspaceError
from ragcun_cli.spec.launch_config import LaunchConfig
from ragcun_cli.spec.manifest import digest, write_atomically
from ragcun_cli.spec.paths import Workspace

WAITS = 20
"""Times in a row that a job waits for its input before it fails."""

_KEPT = ("RAGCUN_WORKSPACE", "RAGCUN_DATA")


class QueuedJob(NamedTuple):
    """A job in the queue of Slurm, which waits or runs."""

    id: str
    state: str
    """``PENDING``, ``RUNNING`` and the like."""
    reason: str
    """Why it waits."""


class SlurmLauncher:
    """Writes and submits the jobs of a plan in a workspace."""

    def __init__(self, workspace: Workspace, plan: str, config: LaunchConfig) -> None:
        self.folder = workspace.root.absolute() / "slurm" / plan
        """Of the scripts, and of what the jobs say."""
        self._plan, self._config = plan, config
        self._prefix = f"ragcun-{digest([str(workspace.root.resolve()), plan])[:8]}-"

    def queued(self) -> dict[str, QueuedJob]:
        """The jobs of the plan that have not ended, by name; none where there is no Slurm.

        Raises:
            RagcunError: Slurm does not answer.
        """
        if shutil.which("squeue") is None:
            return {}
        found = {}
        said = _said("squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%e|%r|%j")
        for line in said.splitlines():
            number, state, end, reason, name = line.split("|", maxsplit=4)
            over = state == "COMPLETING" and end <= datetime.now().isoformat()
            if name.startswith(self._prefix) and not over:  # one that is put back has no such end
                found[name.removeprefix(self._prefix)] = QueuedJob(number, state, reason)
        return found

    def launch(self, jobs: Sequence[RunJob]) -> Launched:
        """Submit each job that is not in the queue.

        Raises:
            RagcunError: there is no Slurm here, or it refuses a job.
        """
        if shutil.which("sbatch") is None:
            raise RagcunError("there is no sbatch here", hint="the same with --launcher local")
        if set("%\\") & set(str(self.folder)):
            raise WorkspaceError(
                f"Slurm reads % and \\ in a path as signs of its own: {self.folder}",
                hint="--workspace FOLDER",
            )
        there = self.queued()
        self.folder.mkdir(parents=True, exist_ok=True)
        ids = {name: job.id for name, job in there.items()}
        new: dict[str, str] = {}
        for job in jobs:
            before = ":".join(ids[name] for name in job.after if name in ids)
            if job.name not in there:
                ids[job.name] = new[job.name] = self._submit(job, before, new)
            elif there[job.name].state == "PENDING" and {*new} & {*job.after}:
                with suppress(RagcunError):  # it has just begun
                    change = f"Dependency=afterany:{before}"
                    _said("scontrol", "update", f"JobId={ids[job.name]}", change)
        return Launched({job.name: ids[job.name] for job in jobs})

    def _submit(self, job: RunJob, before: str, submitted: Mapping[str, str]) -> str:
        (self.folder / f"{job.name}.waits").unlink(missing_ok=True)
        write_atomically(self.folder / f"{job.name}.sh", self.script(job))
        options = [f"--dependency=afterany:{before}"] if before else []
        try:
            said = _said("sbatch", "--parsable", *options, f"{job.name}.sh", cwd=self.folder)
        except RagcunError as error:
            done = f"; submitted before it: {', '.join(submitted)}" if submitted else ""
            hint = shlex.join(["scancel", *submitted.values()]) if submitted else error.hint
            raise RagcunError(f"{job.name}: {error}{done}", hint=hint) from error
        return said.split()[-1].partition(";")[0]

    def script(self, job: RunJob) -> str:
        """What Slurm runs for a job."""
        from jinja2 import Environment, StrictUndefined

        config = self._config
        jinja = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
        jinja.filters["quote"] = shlex.quote
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return jinja.from_string(
            files(__package__).joinpath("job.sh.jinja").read_text(encoding="utf-8")
        ).render(
            job=job,
            config=config,
            plan=self._plan,
            prefix=self._prefix,
            folder=str(Path.cwd()),
            variables={"HF_HUB_OFFLINE": "1", **kept},
            kept=str(self.folder / job.name),
            python=sys.executable,
            words=shlex.join(job.words),
            spread=job.on_gpu and config.nodes * config.processes_per_run > 1,
            blocked=BlockedError.exit_code,
            most=WAITS,
        )


def _said(*command: str, cwd: Path | None = None) -> str:
    """What a command of Slurm answers, whatever the environment has it say by default."""
    known = {name: it for name, it in os.environ.items() if not name.startswith("SQUEUE_")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**known, "SLURM_TIME_FORMAT": "standard"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        why = done.stderr.strip() or f"exit code {done.returncode}"
        raise RagcunError(f"{command[0]} refused: {why}", hint="sinfo --summarize")
    return done.stdout
