"""One training, as its profile states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ragcun_cli.core.objective.terms import ObjectiveSettings
from ragcun_cli.core.training.fit import TrainerSettings
from ragcun_cli.pipeline.encoders.find import FoundEncoder
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import OutputsFolder
from ragcun_cli.spec.profile import RunProfile


@dataclass(frozen=True)
class Job:
    """One training, as every rank has to know it."""

    run: Run
    draft: Path
    encoder: FoundEncoder
    dataset: Path
    negatives: Path
    selection: Mapping[str, Path]
    """Data sets of the selection queries, where there are any."""
    tested: Mapping[str, Path]
    """The reported data sets that are here."""
    device: str
    outputs: OutputsFolder | None
    """Where those of a frozen base are kept; None where it is run each time."""

    @property
    def profile(self) -> RunProfile:
        """The run's."""
        return self.run.profile

    @property
    def seed(self) -> int:
        """The run's."""
        assert self.run.seed is not None
        return self.run.seed


def objective_settings(profile: RunProfile) -> ObjectiveSettings:
    """The profile's objective in the core's terms."""
    fields = ObjectiveSettings.__dataclass_fields__
    values = {key: value for key, value in profile.training if key in fields}
    return ObjectiveSettings(**values, **profile.training.sigreg.model_dump())


def trainer_settings(job: Job) -> TrainerSettings:
    """The profile's optimiser in the core's terms."""
    fields = TrainerSettings.__dataclass_fields__
    values = {key: value for key, value in job.profile.training if key in fields}
    return TrainerSettings(**values, seed=job.seed, device=job.device, run_name=job.run.label)
