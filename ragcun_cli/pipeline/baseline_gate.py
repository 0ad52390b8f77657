"""Row 0 held against published scores before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from ragcun_cli.pipeline.baseline_check import (
    CHECKED,
    Comparison,
    compare,
    published,
    require_reproduced,
)
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.pipeline.stages import Runner
from ragcun_cli.pipeline.task import Task


class BaselineGate:
    """Evaluates untouched bases on sets with published scores, and says whether they come back."""

    def __init__(self, runs: Sequence[Run], road: Road, datasets: Sequence[str]) -> None:
        """For the bases of some runs.

        Args:
            runs: of a plan; each base is checked once.
            road: of their tasks.
            datasets: to check on, of those that have published scores.
        """
        self._road, self._datasets = road, datasets
        dense = [run for run in runs if run.reference != "bm25"]
        bases = [Run(run.profile, None, "untouched", run.workspace) for run in dense]
        self._runs = list({run.folder: run for run in bases}.values())

    def _checks(self) -> list[tuple[Run, str]]:
        return [(run, name) for run in self._runs for name in self._datasets if name in _known(run)]

    def tasks(self) -> list[Task]:
        """What has to be evaluated."""
        return [self._road.evaluate(run, name) for run, name in self._checks()]

    def say_what_is_left_out(self, progress: Progress) -> None:
        """Tell why a base is not checked."""
        for run in self._runs:
            base, length = run.profile.encoder.base, run.profile.encoder.max_seq_length
            if not published(base):
                progress.note(f"baseline check left out: no published scores of '{base}' are known")
            elif not _known(run):
                why = (
                    f"at {length} tokens"
                    if length is not None and not published(base, max_seq_length=length)
                    else f"by similarity '{run.profile.evaluation.similarity}'"
                )
                progress.note(f"baseline check left out: no published scores of '{base}' {why}")
            elif not self._checks():
                sets = ", ".join(CHECKED)
                progress.note(f"baseline check left out: none of {sets} is in the plan or here")

    def check(self, runner: Runner) -> list[Comparison]:
        """Every score beside the published one.

        Raises:
            NotReproducedError: one is off by more than the tolerance.
        """
        found: list[Comparison] = []
        for run in self._runs:
            measured: dict[str, float] = {}
            for name in self._datasets:
                record = runner.current_record(self._road.evaluate(run, name))
                if name in _known(run) and record is not None:
                    measured[name] = record.details["ndcg@10"]
            if measured:
                encoder = run.profile.encoder
                found += compare(encoder.base, measured, max_seq_length=encoder.max_seq_length)
        return found

    def require(self, runner: Runner) -> None:
        """Pass if what was checked came back; nothing to check passes.

        Raises:
            NotReproducedError: it did not.
        """
        if comparisons := self.check(runner):
            require_reproduced(self._runs[0].profile.encoder.base, comparisons)


def _known(run: Run) -> set[str]:
    encoder, evaluation = run.profile.encoder, run.profile.evaluation
    if evaluation.similarity not in ("model", "cosine"):
        return set()
    return set(published(encoder.base, max_seq_length=encoder.max_seq_length))


def sets_to_check(plan: Sequence[str], road: Road) -> list[str]:
    """Of the sets of the check, those that a plan has or that are here."""
    return [name for name in CHECKED if name in plan or road.sets.is_here(name)]
