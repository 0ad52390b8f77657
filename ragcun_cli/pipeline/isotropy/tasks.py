"""The tasks that measure isotropy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.pipeline.training.tasks import TrainingTasks
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.section import stated


class IsotropyTasks:
    """Builds the tasks of measuring in one place."""

    def __init__(self, place: Place, trainings: TrainingTasks) -> None:
        self._place, self._trainings = place, trainings

    def task(self, run: Run) -> Task | None:
        """Measure one run on the test sets that are here; None of one without embeddings."""
        profile = run.profile
        datasets = [
            name for name in profile.evaluation.datasets if not self._place.sets.is_absent(name)
        ]
        if not run.embeds or not datasets:
            return None
        evaluation = stated(profile.evaluation)
        evaluation = {k: v for k, v in evaluation.items() if k in ("batch_size", "precision")}
        counts = [self._place.sets.counts(name) for name in datasets]
        passages = min(sum(passages for passages, _ in counts), profile.isotropy.max_passages)
        asked = sum(queries for _, queries in counts)
        queries = min(asked, profile.isotropy.max_queries or asked)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.isotropy.measure import write_isotropy

            return write_isotropy(
                self._place.load(run, progress),
                {name: self._place.sets.task(name).folder for name in datasets},
                draft,
                config=profile.isotropy,
                evaluation=profile.evaluation,
                progress=progress,
            )

        return Task(
            stage=Stage.ISOTROPY,
            label=f"isotropy {run.label}",
            folder=run.folder,
            key="isotropy",
            values={"isotropy": stated(profile.isotropy), "evaluation": evaluation},
            action=action,
            outputs=(paths.ISOTROPY,),
            feeds=(paths.ISOTROPY,),
            needs=(self._trainings.task(run), *(self._place.sets.task(name) for name in datasets)),
            size=f"{passages:,} passages",
            work=self._work(run, dict(zip(datasets, counts, strict=True)), passages, queries),
        )

    def _work(
        self, run: Run, counts: Mapping[str, tuple[int, int]], passages: int, queries: int
    ) -> Workload:
        """A guess: of each set its share of the texts, and relevant passages of some queries."""
        held, asked = (max(1, sum(side)) for side in zip(*counts.values(), strict=True))
        share = (passages + min(run.profile.isotropy.pair_queries, queries)) / held
        rows = sum(min(side, estimate.MEASURED_ROWS) for side in (passages, queries))
        seconds = 0.2 + estimate.MEASURED_ROW * rows * run.profile.encoder.output_dim / 512
        first, *others = (
            self._place.encoding(run, name, (share * here, queries / asked * of), once=name)
            for name, (here, of) in counts.items()
        )
        return sum(others, first) + Workload(seconds=seconds, disk_bytes=35e3)
