"""The tasks that make the models of runs."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.encoders.files import modules_of
from ragcun_cli.pipeline.encoders.find import load_encoder
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.mining.tasks import MiningTasks
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.spec import paths
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.errors import EncoderError, ProfileError
from ragcun_cli.spec.manifest import Manifest, Stage, digest
from ragcun_cli.spec.profile import EncoderConfig, RunProfile
from ragcun_cli.spec.section import stated


class TrainingTasks:
    """Builds the tasks of training in one place."""

    def __init__(self, place: Place, minings: MiningTasks) -> None:
        self._place, self._minings = place, minings
        self._looked_at: set[EncoderConfig] = set()

    def task(self, run: Run) -> Task:
        """Make the model of a run; a reference's is made without a step of training."""
        if run.reference is not None and not run.holds_model:
            return self._fix_reference(run)
        profile = run.profile
        data = self._place.sets.task(profile.data.train)
        trained = run.reference is None
        mine = self._minings.task(run) if trained else None

        free = run.reference == "free_transform"
        chosen_on = profile.selection_sets if trained or free else ()
        selection = {name: self._place.sets.task(name) for name, _ in chosen_on}

        def action(draft: Path, progress: Progress) -> Details:
            from ragcun_cli.pipeline.training.free_transform import choose_free_transform
            from ragcun_cli.pipeline.training.job import Job
            from ragcun_cli.pipeline.training.train import set_up_start, train

            encoder = self._place.fetch_encoder(profile.encoder)
            common: Any = {"encoder": encoder, "dataset": data.folder, "device": self._place.device}
            common["outputs"] = self._place.outputs(run, encoder.digests())
            if run.reference == "untouched_start":
                return set_up_start(run, draft, **common, progress=progress)
            tested = filter(self._place.sets.is_here, profile.evaluation.datasets)
            common["tested"] = {name: self._place.sets.task(name).folder for name in tested}
            common["selection"] = {name: task.folder for name, task in selection.items()}
            if mine is None:
                return choose_free_transform(run, draft, **common, progress=progress)
            job = Job(run, draft, **common, negatives=mine.folder)
            return train(job, progress=progress)

        kept = [paths.TRAINING_LOG, paths.CHECKPOINTS] if trained else []
        kept += [paths.SELECTION] if selection else []
        kept += [paths.TRACKER] if profile.training.report_to == "tensorboard" else []
        needs = [task for task in (data, mine, *selection.values()) if task is not None]
        steps, rows = self._steps(run) if trained else (0, 0)
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
            reads_splits=tuple((selection[name], split) for name, split in chosen_on),
            size=f"{steps:,} steps of {profile.training.batch_size}" if trained else "",
            work=self._work(run, rows),
            resumable=trained,
            irreplaceable=trained,
            again=shlex.join(
                ["ragcun", "train", "--profile", profile.name, "--seed", f"{run.seed}"]
            ),
            check=partial(self._check_rows, run) if trained else partial(_check_chosen, run),
            fetch=lambda: self._look_at_base(profile.encoder),
        )

    def _look_at_base(self, config: EncoderConfig) -> None:
        """Refuse, before any work, a base that cannot be trained; each is looked at once."""
        if config in self._looked_at:
            return
        found = self._place.fetch_encoder(config)
        if any(kind.endswith((".Router", ".Asym")) for kind in modules_of(found.folder).values()):
            raise EncoderError(
                f"encoder '{config.base}' is a Router, a model for each side, and is not trained",
                hint="--set encoder.base=FOLDER, of one of its sides",
            )
        load_encoder(found, config, device=self._place.device)
        self._looked_at.add(config)

    def _fix_reference(self, run: Run) -> Task:
        """Write down what a reference is, so that its scores rest on it."""
        config = run.profile.encoder
        values = dict(run.values)
        dense = next((one for one in (run, *run.parts) if one.embeds), None)
        if dense is not None:
            values["weights"] = self._weights(run)

        def action(draft: Path, progress: Progress) -> Details:
            (draft / paths.REFERENCE).write_text(
                json.dumps(without_home(values), indent=2) + "\n", encoding="utf-8"
            )
            if dense is None:
                return {"trainable_parameters": 0, "parameters": 0}
            from ragcun_cli.core.model import parameter_counts

            encoder = self._place.fetch_encoder(config)
            counts = parameter_counts(self._place.load(dense, progress))
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
            work=Workload()
            if dense is None
            else self._place.encoding(run, run.profile.data.train, (0, 0)),
        )

    def _weights(self, run: Run) -> dict[str, str] | None:
        """Digests of a run's base encoder, None before it was ever here.

        A workspace may be read where its encoder is not: one that is absent cannot have changed,
        so what the run recorded of it stands.
        """
        found = self._place.encoder(run.profile.encoder)
        if found is not None:
            return found.digests()
        record = Manifest.load(run.folder / paths.MANIFEST).stages.get("train")
        return None if record is None else record.details.get("encoder", {}).get("digests")

    def _rows(self, run: Run) -> int | None:
        """The most rows that a training can have; None while that is not known for sure."""
        profile = run.profile
        rows = self._place.sets.training_queries(profile.data.train)
        if rows is None:
            return None
        if profile.data.max_train_queries is not None:
            return min(rows, profile.data.max_train_queries)
        return max(0, rows - _held_out(profile))

    def _check_rows(self, run: Run) -> None:
        rows, held_out = self._rows(run), _held_out(run.profile)
        if rows is not None:
            beside = f", beside {held_out:,} queries of its selection" if held_out else ""
            run.profile.training.check_rows(rows, label=f"{run.label}{beside}")

    def _steps(self, run: Run) -> tuple[int, int]:
        """Steps of a training and its rows, from what is known before it."""
        rows = self._rows(run)
        if rows is None:
            _, rows = self._place.sets.counts(run.profile.data.train)
        return run.profile.training.steps(rows), rows

    def _scored(self, run: Run, name: str, scores: int) -> Workload:
        selection = run.profile.training.selection
        passages, once = self._drawn(name, selection.passages, "to select on")
        texts = (scores * passages, scores * selection.queries)
        return self._place.encoding(run, name, texts, once=once * bool(scores))

    def _drawn(self, name: str, most: int, to: str) -> tuple[int, str]:
        """How many passages of a set are read, and the name that outputs of them are kept under.

        Those of all passages are kept under the name of the set, as those of its searches are.
        """
        whole = self._place.sets.counts(name)[0]
        return min(most, whole), name if most >= whole else f"{name}, {to}"

    def _work(self, run: Run, rows: int) -> Workload:
        """A guess: the start, which is a PCA of passages, the probe, the steps and the scores."""
        profile, training, name = run.profile, run.profile.training, run.profile.data.train
        head, encoding = profile.encoder.head, partial(self._place.encoding, run)
        shape, width = self._place.shape(profile.encoder), 1 + profile.mining.negatives_per_query
        starts = head.init_passages * ((head.kind, head.init) == ("gaussian", "linear"))
        (starts, first), whole = self._drawn(name, starts, "to start from"), 4.0 * shape.parameters
        if run.reference is not None:
            return encoding(name, (starts, 0), once=first) + Workload(disk_bytes=whole)
        steps, frozen = training.steps(rows), training.freeze_base
        seen = steps * training.batch_size * training.gradient_accumulation_steps
        kept = frozen and training.cache_frozen_base and rows <= seen
        texts = rows if kept else seen
        again = training.gradient_checkpointing or training.mini_batch_size is not None
        passes = 1 if frozen else estimate.TRAINING_TO_FORWARD + again
        mined = digest([stated(profile.data), stated(profile.mining), run.seed]) if kept else ""
        read = (0 if kept and first == name else texts * width, texts)
        sets, every = profile.selection_sets, training.selection.every
        scores = (1 if frozen else steps // every) * bool(sets)
        encoders = 1 + (max(seen, 1) - 1) // max(rows, 1) // training.save_interval + (scores > 0)
        trainable = shape.parameters * (not frozen)
        trainable += 2 * shape.hidden * (shape.hidden + profile.encoder.output_dim)
        longest, half = profile.encoder.max_seq_length or 512, training.precision != "fp32"
        options = {"half": half, "checkpointing": training.gradient_checkpointing}
        fixed, a_row = estimate.training_memory(shape, trainable, longest, width, **options)
        at_once = training.mini_batch_size or training.batch_size
        return replace(
            encoding(name, read, trained=0 if kept else passes, once=mined)
            + encoding(name, (starts, 0), once=first)
            + encoding(name, (training.probe_texts, 0), once=f"{name}, to probe")
            + sum((self._scored(run, name, scores) for name, _ in sets), Workload())
            + Workload(seconds=estimate.STEP_SECONDS * steps, disk_bytes=whole * encoders),
            precision=training.precision,
            held_bytes=fixed + a_row * at_once,
            rows=at_once,
            row_bytes=a_row,
            draft_bytes=2 * fixed,  # two checkpoints to resume from, with AdamW's moments
        )


def _check_chosen(run: Run) -> None:
    if run.reference == "free_transform" and not run.profile.selection_sets:
        raise ProfileError(
            "free_transform is chosen on held-out queries, and the plan names none",
            hint="--set training.selection.queries=500, or [tuning.selection] in the plan",
        )


def _held_out(profile: RunProfile) -> int:
    """Queries of the training set, at most, that a training chooses its encoder on."""
    own = (profile.data.train, "train") in profile.selection_sets
    return own * profile.training.selection.queries
