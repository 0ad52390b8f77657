"""A run: one experiment, or one reference, with one seed, and where it lies."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage, digest
from ragcun_cli.spec.paths import MANIFEST, RUN, Workspace
from ragcun_cli.spec.plan import FUSED, PaperPlan, Reference
from ragcun_cli.spec.profile import NAMED_MODEL, EncoderConfig, RunProfile, model_values
from ragcun_cli.spec.section import stated

_DESCRIPTION = "run"
"""Name of the record of a run's description."""


@dataclass(frozen=True)
class Run:
    """One row of a results table, for one seed."""

    profile: RunProfile
    seed: int | None
    """None for a reference: nothing about it is random."""

    reference: Reference | None
    """What the row is if nothing was trained for it."""

    workspace: Workspace

    trial: int | None = None
    """Number, from 1, of what was tried for an arm; it is trained, and never tested."""

    @property
    def name(self) -> str:
        """Of the experiment or the reference."""
        return self.reference or self.profile.name

    @property
    def values(self) -> dict[str, Any]:
        """Everything in the profile that changes the model, as JSON."""
        if self.reference == "bm25":
            return {"mining": stated(self.profile.mining)}
        if self.reference == "fusion":
            return {"of": {part.name: part.values for part in self.parts}}
        if self.reference == "untouched":
            return {"encoder": _untouched(self.profile.encoder)}
        if self.reference == "untouched_start":
            data = {"train": self.profile.data.train}
            similarity = self.profile.training.contrastive
            encoder = stated(self.profile.untrained.encoder)
            return {"encoder": encoder, "data": data, "for": similarity}
        if self.reference == "free_transform":
            config = self.profile.encoder
            seen = {"normalize_base": config.normalize_base, "passages": config.head.init_passages}
            chosen = stated(self.profile.training.selection)
            data = {"train": self.profile.data.train}
            return {"encoder": _untouched(config) | seen, "data": data, "selection": chosen}
        return model_values(self.profile)

    @property
    def folder(self) -> Path:
        """Where it lies: its identity."""
        return self.workspace.run(self.name, digest(self.values), self.seed)

    @property
    def parts(self) -> tuple[Run, ...]:
        """The runs whose rankings it is made of; none of a run that ranks by itself."""
        names = FUSED if self.reference == "fusion" else ()
        return tuple(replace(self, reference=name) for name in names)

    @property
    def embeds(self) -> bool:
        """Whether it has embeddings: BM25 has none, nor has a fusion of its own."""
        return self.reference not in ("bm25", "fusion")

    @property
    def holds_model(self) -> bool:
        """Whether the model that its rows are about lies in its folder."""
        return self.embeds and self.reference != "untouched"

    @property
    def is_named_model(self) -> bool:
        """Whether it is a model that was named on the command line."""
        return self.reference == "untouched" and self.profile.name == NAMED_MODEL

    @property
    def title(self) -> str:
        """Of its row in a table."""
        return without_home(self.profile.description) if self.is_named_model else self.name

    @property
    def label(self) -> str:
        """For people."""
        if self.trial is not None:
            return f"{self.title}, trial {self.trial}"
        return self.title if self.seed is None else f"{self.title}, seed {self.seed}"

    @property
    def key(self) -> str:
        """How a command names it among the runs of a plan: `with_isotropy:2`, `untouched`."""
        if self.trial is not None:
            return f"{self.title}:trial-{self.trial}"
        return self.title if self.seed is None else f"{self.title}:{self.seed}"

    def description(self) -> str:
        """The text of its run file."""
        content = {
            "reference": self.reference,
            "seed": self.seed,
            "profile": self.profile.model_dump(mode="json"),
        }
        content |= {} if self.trial is None else {"trial": self.trial}
        return json.dumps(content, indent=2) + "\n"


def _untouched(encoder: EncoderConfig) -> dict[str, Any]:
    """What of an encoder's section matters when nothing is put on top of the base."""
    kept = ("base", "revision", "sha256", "max_seq_length")
    return {key: value for key, value in stated(encoder).items() if key in kept}


def runs_of(plan: PaperPlan, workspace: Workspace) -> list[Run]:
    """The runs of a plan in the order of its table's rows, each once."""
    references = [
        Run(profile, None, reference, workspace)
        for reference in plan.references
        for profile in (plan.experiments if reference == "untouched_start" else plan.untried)
        if reference != "untouched_start"
        or (profile.encoder.head.kind, profile.encoder.head.init) == ("gaussian", "linear")
    ]
    trained = [
        Run(profile, seed, None, workspace) for profile in plan.experiments for seed in plan.seeds
    ]
    unique = {run.folder: run for run in reversed([*references, *trained])}
    return list(reversed(unique.values()))


def trials_of(plan: PaperPlan, workspace: Workspace) -> dict[str, list[Run]]:
    """Name of each tuned arm -> the runs of its trials."""
    return {
        arm.name: [
            Run(trial.profile, plan.tuning_seed, None, workspace, number)
            for number, trial in enumerate(arm.trials, 1)
        ]
        for arm in plan.tuned
    }


def description_task(run: Run) -> Task:
    """Write what a run's folder is, and how it is evaluated, where it can be found again."""

    def action(draft: Path, progress: Progress) -> Details:
        (draft / RUN).write_text(run.description(), encoding="utf-8")
        return {}

    return Task(
        stage=Stage.TRAIN,
        label=f"describe {run.label}",
        folder=run.folder,
        key=_DESCRIPTION,
        values=json.loads(run.description()),
        action=action,
        outputs=(RUN,),
        feeds=(),
    )


def runs_on_disk(workspace: Workspace) -> tuple[list[Run], dict[str, str]]:
    """The runs that lie in a workspace, references first; and folders of others -> what is wrong.

    Folders are named from that of all runs.
    """
    files = [f"{folder}/{name}" for folder in ("*/*", "*/*/seed-*") for name in (RUN, MANIFEST)]
    folders = {file.parent for pattern in files for file in workspace.runs.glob(pattern)}
    runs: list[Run] = []
    left_out: dict[str, str] = {}
    for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder)):
        try:
            run = _read(folder, workspace)
        except WorkspaceError as error:
            left_out[folder.relative_to(workspace.runs).as_posix()] = str(error)
            continue
        if run.folder == folder:
            runs.append(run)
        else:
            why = "a model that was kept aside, or was made with other defaults"
            left_out[folder.relative_to(workspace.runs).as_posix()] = why
    return runs, left_out


def _read(folder: Path, workspace: Workspace) -> Run:
    record = Manifest.load(folder / MANIFEST).stages.get(_DESCRIPTION)
    file = folder / RUN
    if record is None or not record.outputs[0].is_intact(folder, verify=True):
        what = "is not what was written" if file.exists() else "is missing"
        raise WorkspaceError(f"{RUN} {what}; ragcun train or eval with its profile writes it again")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        profile = RunProfile.model_validate(content["profile"])
        named: Reference | None = TypeAdapter(Reference | None).validate_python(
            content["reference"]
        )
        return Run(profile, content["seed"], named, workspace, content.get("trial"))
    except (ValueError, KeyError, TypeError) as error:  # pydantic's own among them
        raise WorkspaceError(f"{RUN} holds no run that this version of ragcun reads") from error
