"""Stages that fail in one command: what does not rest on them goes on."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence

from ragcun_cli.pipeline.machine import processes
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.task import Task, with_needs
from ragcun_cli.spec.errors import DiskFullError, RagcunError, StageFailedError, first_line


class SeveralFailedError(StageFailedError):
    """More than one stage of a command failed; its exit code is theirs, where they share one."""


class Failures:
    """Runs stages, and keeps what went wrong with some until the others are done."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._failed: dict[tuple[object, str], tuple[Task, Exception]] = {}

    def run(self, tasks: Iterable[Task], *, force: bool = False) -> int:
        """Bring tasks up to date but those that rest on one that failed; how many ran.

        Raises:
            DiskFullError: which all others would come to as well.
        """
        ran = 0
        for task in tasks:
            if self.hits(task):
                continue
            try:
                ran += self._runner.run(task, force=force)
            except DiskFullError:
                raise
            except Exception as error:
                if processes.others_wait_inside():
                    raise
                self._failed[task.identity] = (task, error)
                self._runner.progress.note(f"failed: {task.label}: {first_line(error)}")
        return ran

    def hits(self, task: Task) -> bool:
        """Whether a task failed, or rests on one that did."""
        return any(one.identity in self._failed for one in with_needs([task]))

    def require_none(self, asked: Sequence[Task]) -> None:
        """Pass if nothing failed.

        Args:
            asked: tasks of the command, of which those that rest on failed ones are counted.

        Raises:
            Exception: what one task failed with, where it is the only one.
            SeveralFailedError: naming each.
        """
        failed = list(self._failed.values())
        if len(failed) == 1:
            raise failed[0][1]
        if not failed:
            return
        for _, error in failed:
            if not isinstance(error, RagcunError):
                self._runner.progress.note("".join(traceback.format_exception(error)))
        waiting = sum(map(self.hits, asked)) - len(failed)
        rest = f"; {waiting} that rest on them did not run" if waiting > 0 else ""
        lines = [f"\n  {task.label}: {first_line(error)}" for task, error in failed]
        hints = [hint for _, error in failed if (hint := getattr(error, "hint", None))]
        several = SeveralFailedError(
            f"{len(failed)} stages failed{rest}:{''.join(lines)}", hint=next(iter(hints), None)
        )
        codes = {getattr(error, "exit_code", several.exit_code) for _, error in failed}
        several.exit_code = codes.pop() if len(codes) == 1 else several.exit_code
        raise several
