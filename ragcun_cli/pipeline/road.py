"""The road of the data as tasks: what each stage reads, needs and writes, for one workspace.

Nothing here computes: the actions import what they need when they run, so that finding out that
nothing has to be done costs no import of torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline import estimate
from ragcun_cli.pipeline.data.tasks import DataTasks
from ragcun_cli.pipeline.encoders import FoundEncoder, fetch_encoder, find_encoder
from ragcun_cli.pipeline.evaluation_tasks import EvaluationTasks
from ragcun_cli.pipeline.mining_models import MiningModels
from ragcun_cli.pipeline.progress import Progress
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.pipeline.searching import ALONE, Searching
from ragcun_cli.pipeline.task import Details, Task
from ragcun_cli.pipeline.tiny_encoder import TINY_ENCODER
from ragcun_cli.spec import paths
from ragcun_cli.spec.manifest import Manifest, Stage, digest
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig
from ragcun_cli.spec.section import stated

BASE_SIZED = 440_000_000
"""Bytes of a base-sized encoder's weights, for estimates made before it is here."""


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
        self.evaluations = EvaluationTasks(self, searching)
        self.sets = DataTasks(workspace, mirrors=mirrors)
        self._device_name = device
        self._mining_models = MiningModels(workspace)
        self._encoders: dict[str, FoundEncoder | None] = {}

    @cached_property
    def device(self) -> str:
        """Where the stages compute; asking imports torch."""
        from ragcun_cli.pipeline.devices import choose_device

        return choose_device(self._device_name)

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
        return len(names) * BASE_SIZED

    def _weights(self, run: Run) -> dict[str, str] | None:
        """Digests of a run's base encoder, None before it was ever here.

        A workspace may be read where its encoder is not: one that is absent cannot have changed,
        so what the run recorded of it stands.
        """
        found = self.encoder(run.profile.encoder)
        if found is not None:
            return found.digests()
        record = Manifest.load(run.folder / paths.MANIFEST).stages.get("train")
        return None if record is None else record.details.get("encoder", {}).get("digests")

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
            weight_bytes=BASE_SIZED if found is None else found.weight_bytes,
            max_tokens=run.profile.encoder.max_seq_length or 512,
            gpu=self._device_name.startswith("cuda") or estimate.sees_gpu(),
        )

    def _training_work(self, run: Run) -> tuple[int, float]:
        """Steps and seconds of a training, from what is known before it."""
        profile, training = run.profile, run.profile.training
        _, queries = self.sets.counts(profile.data.train)
        rows = min(queries, profile.data.max_train_queries or queries)
        batch = training.batch_size * training.gradient_accumulation_steps
        steps = min(rows // batch * training.epochs, training.max_steps or 10**9)
        forward = self.encoding_seconds(
            run,
            passages=steps * batch * (1 + profile.mining.negatives_per_query),
            queries=steps * batch,
        )
        factor = 1 if training.freeze_base else estimate.TRAINING_TO_FORWARD
        return steps, forward * factor

    # Mining and training

    def mine(self, run: Run) -> Task:
        """Choose the negatives of a run; experiments of one seed and one mining share them."""
        profile, seed = run.profile, run.seed
        assert seed is not None
        values = {"data": stated(profile.data), "mining": stated(profile.mining)}
        mining, models = profile.mining, self._mining_models
        folder = self.workspace.negatives(profile.data.train, digest(values), seed)
        if named := self._mining_weights(mining, folder):
            values["models"] = named
        passages, queries = self.sets.counts(profile.data.train)
        data = self.data(profile.data.train)

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.mine import mine

            found = models.fetch(mining)
            summary = mine(
                data.folder,
                draft,
                data=profile.data,
                mining=mining,
                seed=seed,
                workspace=self.workspace,
                progress=progress,
                models=found,
                device=self.device if found else "cpu",
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
            download_bytes=models.bytes_to_fetch(mining),
            size=f"{mining.negatives_per_query} negatives a query",
            seconds=self._mining_seconds(mining, queries=queries, passages=passages),
        )

    def _mining_weights(self, mining: MiningConfig, folder: Path) -> dict[str, Any]:
        """Digests of the models that a mining names, as of a run's base encoder."""
        record = Manifest.load(folder / paths.MANIFEST).stages.get("mine")
        recorded = {} if record is None else record.details.get("models", {})
        return self._mining_models.digests(mining, recorded)

    def _mining_seconds(self, mining: MiningConfig, *, queries: int, passages: int) -> float:
        gpu = self._device_name.startswith("cuda") or estimate.sees_gpu()
        counts = {"queries": queries, "passages": passages}
        lexical = 0.0 if mining.candidates == "dense" else estimate.mining_seconds(**counts)
        return lexical + self._mining_models.seconds(mining, **counts, max_tokens=512, gpu=gpu)

    def train(self, run: Run) -> Task:
        """Make the model of a run; a reference's is made without a step of training."""
        if run.reference in ("untouched", "bm25"):
            return self._fix_reference(run)
        profile = run.profile
        data = self.data(profile.data.train)
        trained = run.reference is None
        mine = self.mine(run) if trained else None

        selection = self._selection(run) if trained else None

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.prepare import Job
            from ragcun_cli.pipeline.train import set_up_pca, train

            encoder = self.fetch_encoder(profile.encoder)
            common: Any = {"encoder": encoder, "dataset": data.folder, "device": self.device}
            if mine is None:
                return set_up_pca(run, draft, **common, progress=progress)
            tested = [name for name in profile.evaluation.datasets if self.sets.is_here(name)]
            job = Job(
                run,
                draft,
                **common,
                negatives=mine.folder,
                selection=None if selection is None else selection.folder,
                tested={name: self.data(name).folder for name in tested},
            )
            return train(job, progress=progress)

        kept = [paths.TRAINING_LOG, paths.CHECKPOINTS] if trained else []
        kept += [paths.SELECTION] if selection is not None else []
        kept += [paths.TRACKER] if profile.training.report_to == "tensorboard" else []
        needs = [task for task in (data, mine, selection) if task is not None]
        steps, seconds = self._training_work(run) if trained else (0, 0.0)
        return Task(
            stage=Stage.TRAIN,
            label=f"train {run.label}" if trained else f"set up {run.label}",
            folder=run.folder,
            key="train",
            values={
                **run.values,
                "seed": run.seed,
                "weights": self._weights(run),
            },
            action=action,
            outputs=(paths.MODEL, *kept),
            feeds=(paths.MODEL,),
            needs=tuple(needs),
            reads_splits=() if selection is None else ((selection, profile.selection_set[1]),),
            size=f"{steps:,} steps of {profile.training.batch_size}" if trained else "",
            seconds=seconds,
            resumable=trained,
            irreplaceable=trained,
            describes=(paths.RUN, run.description()),
        )

    def _selection(self, run: Run) -> Task | None:
        """The data set that the best encoder of a training is chosen on."""
        if not run.profile.training.selection.queries:
            return None
        return self.data(run.profile.selection_set[0])

    def _fix_reference(self, run: Run) -> Task:
        """Write down what a reference is, so that its scores rest on it."""
        config = run.profile.encoder
        values = dict(run.values)
        if run.reference == "untouched":
            values["weights"] = self._weights(run)

        def action(draft: Path, progress: Progress) -> Details:
            (draft / paths.REFERENCE).write_text(
                json.dumps(values, indent=2) + "\n", encoding="utf-8"
            )
            if run.reference == "bm25":
                return {"trainable_parameters": 0, "parameters": 0}
            from ragcun_cli.core.model import parameter_counts

            encoder = self.fetch_encoder(config)
            counts = parameter_counts(self.models.load(run))
            return {**counts, "trainable_parameters": 0, "encoder": encoder.provenance()}

        return Task(
            stage=Stage.TRAIN,
            label=f"set up {run.label}",
            folder=run.folder,
            key="train",
            values=values,
            action=action,
            outputs=(paths.REFERENCE,),
            feeds=(paths.REFERENCE,),
            describes=(paths.RUN, run.description()),
        )

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
