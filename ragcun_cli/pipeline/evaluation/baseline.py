"""Row 0, the base as published, held against the scores that others published of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragcun_cli.pipeline.encoders.published import (
    ENCODERS,
    PublishedScore,
    name_of_weights,
    published,
)
from ragcun_cli.pipeline.evaluation.tasks import EvaluationTasks
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.errors import NotReproducedError

CHECKED = ("scifact", "nfcorpus", "arguana", "fiqa", "trec-covid")
"""Sets that are searched within minutes; arguana tells whether a query's namesake passage is left
out, trec-covid whether titles and grades are read."""

TOLERANCE = 0.005
"""Of nDCG@10: machines and precisions differ in the third decimal."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """A score measured here, beside the published one."""

    dataset: str
    published: float
    measured: float
    difference: float
    """Measured less published."""
    within: bool
    """Whether it is at most `TOLERANCE`, either way."""
    source: str

    @classmethod
    def of(cls, dataset: str, measured: float, known: PublishedScore) -> Comparison:
        """nDCG@10 of the whole reported split, with the encoder as published, and what is known."""
        difference = measured - known.ndcg
        within = abs(difference) <= TOLERANCE + _ROUNDING
        return cls(dataset, known.ndcg, measured, difference, within, known.source)


def require_reproduced(encoder_base: str, comparisons: Sequence[Comparison]) -> None:
    """Pass if every score is within the tolerance.

    Raises:
        NotReproducedError: one is off.
    """
    off = [part for part in comparisons if not part.within]
    if off:
        named = "; ".join(
            f"{part.dataset} {part.measured:.4f} instead of {part.published:.4f} "
            f"({part.difference:+.4f})"
            for part in off
        )
        raise NotReproducedError(
            f"nDCG@10 of '{encoder_base}' is further than {TOLERANCE:g} from what is published on "
            f"{len(off)} of {len(comparisons)} data sets: {named}",
            hint=f"ragcun data verify {' '.join(part.dataset for part in off)}",
        )


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
        dense = [run for run in runs if run.embeds]
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

    def _known(self, run: Run) -> Mapping[str, PublishedScore]:
        """Data set -> published score of a run's base, as it is evaluated."""
        if run.profile.evaluation.similarity not in ("model", "cosine"):
            return {}
        return published(self._encoder(run), max_seq_length=run.profile.encoder.max_seq_length)

    def tasks(self) -> list[Task]:
        """What has to be evaluated."""
        return [self._evaluations.score(run, name) for run, name in self._checks()]

    def say_what_is_left_out(self, progress: Progress) -> None:
        """Tell why a base is not checked."""
        for run in self._runs:
            base, length = self._encoder(run), run.profile.encoder.max_seq_length
            why = f"no published scores of '{base}' "
            if not published(base):
                why += "are known"
            elif not published(base, max_seq_length=length):
                why += f"at {length} tokens"
            elif not self._known(run):
                why += f"by similarity '{run.profile.evaluation.similarity}'"
            elif not self._checks():
                why = f"none of {', '.join(CHECKED)} is in the plan or here"
            else:
                continue
            progress.note(f"baseline check left out: {why}")

    def check(self, runner: Runner) -> list[Comparison]:
        """Every score that is measured, beside the published one."""
        return [
            Comparison.of(name, float(content["metrics"]["ndcg@10"]), self._known(run)[name])
            for run, name in self._checks()
            if (content := self._evaluations.measured(run, name, runner)) is not None
        ]

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
