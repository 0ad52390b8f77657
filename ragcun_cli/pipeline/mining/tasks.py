"""The tasks that mine negatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.mining.second_models import MiningModels
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.pipeline.stages.runner import LEXICAL_NUMBERS
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import Manifest, Stage, digest
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.section import stated


class MiningTasks:
    """Builds the tasks of mining in one place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._models = MiningModels(place.workspace)

    def task(self, run: Run) -> Task:
        """Choose the negatives of a run; experiments of one seed and one mining share them."""
        profile, seed = run.profile, run.seed
        assert seed is not None
        values: dict[str, Any] = {"data": stated(profile.data), "mining": stated(profile.mining)}
        mining, models = profile.mining, self._models
        folder = self._place.workspace.negatives(profile.data.train, digest(values), seed)
        if named := self._mining_weights(mining, folder):
            values["models"] = named
        if mining.candidates == "bm25":
            values["lexical"] = LEXICAL_NUMBERS
        passages, queries = self._place.sets.counts(profile.data.train)
        data = self._place.sets.task(profile.data.train)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.mining.mine import mine

            found = models.fetch(mining)
            summary = mine(
                data.folder,
                draft,
                data=profile.data,
                mining=mining,
                seed=seed,
                workspace=self._place.workspace,
                progress=progress,
                models=found,
                device=self._place.device if found else "cpu",
            )
            sources = {key: model.provenance() for key, model in found.items()}
            return {**summary, "models": sources} if sources else summary

        return Task(
            stage=Stage.MINE,
            label=f"mine {profile.data.train}, seed {seed}",
            folder=folder,
            key="mine",
            values={**values, "seed": seed},
            action=action,
            outputs=(
                paths.NEGATIVES,
                paths.MINING_SUMMARY,
                paths.MINING_DETAILS,
                paths.DEV_NEGATIVES,
                paths.DEV_MINING_DETAILS,
            ),
            feeds=(paths.NEGATIVES,),
            needs=(data,),
            reads_splits=((data, "train"),),
            resumable=True,
            fetch=(lambda: models.fetch(mining)) if named else None,
            size=f"{mining.negatives_per_query} negatives a query",
            work=self._work(run, queries=queries, passages=passages),
        )

    def _mining_weights(self, mining: MiningConfig, folder: Path) -> dict[str, Any]:
        """Digests of the models that a mining names, as of a run's base encoder."""
        record = Manifest.load(folder / paths.MANIFEST).stages.get("mine")
        recorded = {} if record is None else record.details.get("models", {})
        return self._models.digests(mining, recorded)

    def _work(self, run: Run, *, queries: int, passages: int) -> Workload:
        """A guess: the search, then the choice among its hits, in Python."""
        mining, name = run.profile.mining, run.profile.data.train
        tokens = self._place.sets.tokens(name)
        work = Workload(seconds=queries / estimate.CHOSEN, disk_bytes=550.0 * queries)
        work = self._models.work(mining, queries=queries, passages=passages, tokens=tokens) + work
        if mining.candidates == "dense":
            return work
        return estimate.bm25(queries=queries, passages=passages, name=name) + work
