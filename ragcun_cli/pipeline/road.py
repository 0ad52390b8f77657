"""The road of the data: the tasks of all stages, for those who walk it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragcun_cli.pipeline.evaluation.tasks import EvaluationTasks
from ragcun_cli.pipeline.isotropy.tasks import IsotropyTasks
from ragcun_cli.pipeline.mining.tasks import MiningTasks
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.search.division import ALONE, Searching
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.pipeline.training.tasks import TrainingTasks


@dataclass(frozen=True)
class Road:
    """What makes the tasks of each stage in one place: what they read, need and write.

    Nothing here computes: the actions import what they need when they run, so that finding out that
    nothing has to be done costs no import of torch.
    """

    place: Place
    minings: MiningTasks
    trainings: TrainingTasks
    evaluations: EvaluationTasks
    isotropies: IsotropyTasks

    @classmethod
    def of(cls, place: Place, how: Searching = ALONE) -> Road:
        """The road in one place; ``how`` says how data sets are searched."""
        minings = MiningTasks(place)
        trainings = TrainingTasks(place, minings)
        evaluations = EvaluationTasks(place, trainings, how)
        return cls(place, minings, trainings, evaluations, IsotropyTasks(place, trainings))

    def results_of(self, run: Run, datasets: Sequence[str]) -> list[Task]:
        """What a row of the tables reads: the training, the scores on some data sets, isotropy."""
        scores = [self.evaluations.score(run, name) for name in datasets]
        isotropy = self.isotropies.task(run)
        return [self.trainings.task(run), *scores, *([] if isotropy is None else [isotropy])]
