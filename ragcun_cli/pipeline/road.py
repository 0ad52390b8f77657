"""The road of the data as tasks: what each stage reads, needs and writes, for one workspace.

Nothing here computes: the actions import what they need when they run, so that finding out that
nothing has to be done costs no import of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline import estimate
from ragcun_cli.pipeline.data.tasks import DataTasks
from ragcun_cli.pipeline.encoders import FoundEncoder, fetch_encoder, find_encoder
from ragcun_cli.pipeline.evaluation_tasks import EvaluationTasks
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.pipeline.searching import ALONE, Searching
from ragcun_cli.pipeline.task import Details, Task
from ragcun_cli.pipeline.tiny_encoder import TINY_ENCODER
from ragcun_cli.pipeline.training_tasks import TrainingTasks
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import Stage, digest
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig
from ragcun_cli.spec.section import stated


class Road:
    """Builds the tasks of one workspace."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        device: str = "auto",
        mirrors: Sequence[str] = (),
        searching: Searching = ALONE,
    ) -> None:
        self.workspace = workspace
        self.trainings = TrainingTasks(self)
        self.evaluations = EvaluationTasks(self, searching)
        self.sets = DataTasks(workspace, mirrors=mirrors)
        self._device_name = device
        self._encoders: dict[str, FoundEncoder | None] = {}

    @cached_property
    def device(self) -> str:
        """Where the stages compute; asking imports torch."""
        from ragcun_cli.pipeline.devices import choose_device

        return choose_device(self._device_name)

    @property
    def on_gpu(self) -> bool:
        """Whether they are expected to compute on a GPU; asking imports nothing."""
        return self._device_name.startswith("cuda") or estimate.sees_gpu()

    @cached_property
    def models(self) -> Any:  # noqa: ANN401
        """Loads the models of runs, and keeps the last one."""
        from ragcun_cli.pipeline.models import Models

        return Models(self)

    # Encoders

    def encoder(self, config: EncoderConfig) -> FoundEncoder | None:
        """The base encoder a profile names, None where this machine has yet to fetch it."""
        key = digest(stated(config))
        if key not in self._encoders:
            self._encoders[key] = find_encoder(config, self.workspace)
        return self._encoders[key]

    def fetch_encoder(self, config: EncoderConfig) -> FoundEncoder:
        """The base encoder a profile names, brought here if need be."""
        found = self.encoder(config) or fetch_encoder(config, self.workspace)
        self._encoders[digest(stated(config))] = found
        return found

    def bytes_to_fetch(self, configs: Sequence[EncoderConfig]) -> int:
        """A guess of what base encoders that are not here have to be downloaded."""
        names = {c.base for c in configs if c.base != TINY_ENCODER and self.encoder(c) is None}
        return len(names) * estimate.UNKNOWN_WEIGHTS

    # Data

    def data(self, name: str) -> Task:
        """Bring one data set into the workspace.

        Raises:
            DataError: a library that it is made of is not installed.
        """
        return self.sets.task(name)

    def encoding_seconds(self, run: Run, *, passages: int, queries: int) -> float:
        """A guess of the time that a search takes."""
        if run.reference == "bm25":
            return estimate.mining_seconds(queries=queries, passages=passages)
        found = self.encoder(run.profile.encoder)
        return estimate.encoding_seconds(
            passages=passages,
            queries=queries,
            weight_bytes=estimate.UNKNOWN_WEIGHTS if found is None else found.weight_bytes,
            max_tokens=run.profile.encoder.max_seq_length or 512,
            gpu=self.on_gpu,
        )

    # Mining and training

    def mine(self, run: Run) -> Task:
        """Choose the negatives of a run; experiments of one seed and one mining share them."""
        return self.trainings.mine(run)

    def train(self, run: Run) -> Task:
        """Make the model of a run; a reference's is made without a step of training."""
        return self.trainings.train(run)

    # Evaluation

    def search(self, run: Run, dataset: str) -> Task:
        """Rank the passages of one data set by one run."""
        return self.evaluations.search(run, dataset)

    def evaluate(self, run: Run, dataset: str) -> Task:
        """Score one run on one data set."""
        return self.evaluations.score(run, dataset)

    def isotropy(self, run: Run) -> Task | None:
        """Measure the isotropy of one run on the test sets that are here; none has BM25."""
        profile = run.profile
        datasets = [name for name in profile.evaluation.datasets if not self.sets.is_absent(name)]
        if run.reference == "bm25" or not datasets:
            return None
        evaluation = stated(profile.evaluation)
        evaluation = {k: v for k, v in evaluation.items() if k in ("batch_size", "precision")}
        counts = [self.sets.counts(name) for name in datasets]
        passages = min(sum(passages for passages, _ in counts), profile.isotropy.max_passages)
        asked = sum(queries for _, queries in counts)
        queries = min(asked, profile.isotropy.max_queries or asked)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.isotropy import write_isotropy

            return write_isotropy(
                self.models.load(run),
                {name: self.data(name).folder for name in datasets},
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
            needs=(self.train(run), *(self.data(name) for name in datasets)),
            size=f"{passages:,} passages",
            seconds=self.encoding_seconds(run, passages=passages, queries=queries),
            describes=(paths.RUN, run.description()),
        )
