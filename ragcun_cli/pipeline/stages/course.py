"""How far a command has come with what it set out to run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ragcun_cli.pipeline.stages.estimate import duration
from ragcun_cli.pipeline.stages.task import Task

WEIGHT = 60.0
"""Guessed seconds that the guess itself stands for when finished stages correct it."""


class Course:
    """The stages of one command, and a guess of the time that is left."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._to_come = {task.identity: task.seconds for task in tasks}
        self._stages, self._guessed = len(tasks), sum(self._to_come.values())
        self._started = time.perf_counter()

    def comes_to(self, task: Task) -> str | None:
        """``stage 23 of 83, about 12 min left: mine x``; None for what was not set out to run."""
        if task.identity not in self._to_come:
            return None
        left = sum(self._to_come.values())
        finished = self._guessed - left
        left *= (time.perf_counter() - self._started + WEIGHT) / (finished + WEIGHT)
        del self._to_come[task.identity]
        number = self._stages - len(self._to_come)
        return f"stage {number} of {self._stages}, {duration(left)} left: {task.label}"
