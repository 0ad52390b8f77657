"""Row 0 held against published scores before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from ragcun_cli.pipeline.encoders.published import ENCODERS, name_of_weights, published
from ragcun_cli.pipeline.evaluation.baseline import (
    CHECKED,
    Comparison,
    compare,
    require_reproduced,
)
from ragcun_cli.pipeline.evaluation.tasks import EvaluationTasks
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task


class BaselineGate:
    """Evaluates untouched bases on sets with published scores, and says whether they come back."""

    def __init__(
        self,
        runs: Sequence[Run],
        place: Place,
        evaluations: EvaluationTasks,
        datasets: Sequence[str],
    ) -> None:
        """For the bases of some runs.

        Args:
            runs: of a plan; each base is checked once.
            place: of the runs.
            evaluations: makes their tasks.
            datasets: to check on, of those that have published scores.
        """
        self._place, self._evaluations, self._datasets = place, evaluations, datasets
        dense = [run for run in runs if run.reference != "bm25"]
        bases = [Run(run.profile, None, "untouched", run.workspace) for run in dense]
        self._runs = list({run.folder: run for run in bases}.values())

    def _checks(self) -> list[tuple[Run, str]]:
        return [
            (run, name) for run in self._runs for name in self._datasets if name in self._known(run)
        ]

    def _encoder(self, run: Run) -> str:
        """Name of a run's base; of a copy in a folder, the published one that has its weights."""
        base = run.profile.encoder.base
        if base in ENCODERS or (found := self._place.encoder(run.profile.encoder)) is None:
            return base
        return name_of_weights(found.sha256) or base

    def _known(self, run: Run) -> set[str]:
        """Data sets with a published score of a run's base, as it is evaluated."""
        if run.profile.evaluation.similarity not in ("model", "cosine"):
            return set()
        length = run.profile.encoder.max_seq_length
        return set(published(self._encoder(run), max_seq_length=length))

    def tasks(self) -> list[Task]:
        """What has to be evaluated."""
        return [self._evaluations.score(run, name) for run, name in self._checks()]

    def say_what_is_left_out(self, progress: Progress) -> None:
        """Tell why a base is not checked."""
        for run in self._runs:
            base, length = self._encoder(run), run.profile.encoder.max_seq_length
            if not published(base):
                progress.note(f"baseline check left out: no published scores of '{base}' are known")
            elif not self._known(run):
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
            contents = {
                name: self._evaluations.measured(run, name, runner)
                for name in self._datasets
                if name in self._known(run)
            }
            measured = {
                name: float(content["metrics"]["ndcg@10"])
                for name, content in contents.items()
                if content is not None
            }
            length = run.profile.encoder.max_seq_length
            found += compare(self._encoder(run), measured, max_seq_length=length)
        return found

    def require(self, runner: Runner) -> None:
        """Pass if what was checked came back; nothing to check passes.

        Raises:
            NotReproducedError: it did not.
        """
        if comparisons := self.check(runner):
            require_reproduced(self._encoder(self._runs[0]), comparisons)


def sets_to_check(plan: Sequence[str], place: Place) -> list[str]:
    """Of the sets of the check, those that a plan has or that are here."""
    return [name for name in CHECKED if name in plan or place.sets.is_here(name)]
