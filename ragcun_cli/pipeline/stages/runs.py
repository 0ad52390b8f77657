"""A run: one experiment, or one reference, with one seed, and where it lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import digest
from ragcun_cli.spec.paths import RUN, Workspace
from ragcun_cli.spec.plan import PaperPlan, Reference
from ragcun_cli.spec.profile import NAMED_MODEL, EncoderConfig, RunProfile, model_values
from ragcun_cli.spec.section import stated


@dataclass(frozen=True)
class Run:
    """One row of a results table, for one seed."""

    profile: RunProfile
    seed: int | None
    """None for a reference: nothing about it is random."""

    reference: Reference | None
    """What the row is if nothing was trained for it."""

    workspace: Workspace

    @property
    def name(self) -> str:
        """Of the experiment or the reference."""
        return self.reference or self.profile.name

    @property
    def values(self) -> dict[str, Any]:
        """Everything in the profile that changes the model, as JSON."""
        if self.reference == "bm25":
            return {"mining": stated(self.profile.mining)}
        if self.reference == "untouched":
            return {"encoder": _untouched(self.profile.encoder)}
        if self.reference == "untouched_pca":
            data = {"train": self.profile.data.train}
            similarity = self.profile.training.contrastive
            return {"encoder": stated(self.profile.encoder), "data": data, "for": similarity}
        return model_values(self.profile)

    @property
    def folder(self) -> Path:
        """Where it lies: its identity."""
        return self.workspace.run(self.name, digest(self.values), self.seed)

    @property
    def is_named_model(self) -> bool:
        """Whether it is a model that was named on the command line."""
        return self.reference == "untouched" and self.profile.name == NAMED_MODEL

    @property
    def title(self) -> str:
        """Of its row in a table."""
        return self.profile.description if self.is_named_model else self.name

    @property
    def label(self) -> str:
        """For people."""
        return self.title if self.seed is None else f"{self.title}, seed {self.seed}"

    def description(self) -> str:
        """The text of its run file."""
        content = {
            "reference": self.reference,
            "seed": self.seed,
            "profile": self.profile.model_dump(mode="json"),
        }
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
        for profile in plan.experiments
        if reference != "untouched_pca" or profile.encoder.head.kind == "gaussian"
    ]
    trained = [
        Run(profile, seed, None, workspace) for profile in plan.experiments for seed in plan.seeds
    ]
    unique = {run.folder: run for run in reversed([*references, *trained])}
    return list(reversed(unique.values()))


def runs_on_disk(workspace: Workspace) -> Iterator[Run]:
    """The runs that lie in a workspace, references first.

    Raises:
        WorkspaceError: a run file cannot be read.
    """
    files = [*workspace.runs.glob(f"*/*/{RUN}"), *workspace.runs.glob(f"*/*/seed-*/{RUN}")]
    for file in sorted(files, key=lambda file: (len(file.parts), file)):
        run = _read(file, workspace)
        # Another folder is a model kept aside, or one from before a default changed: history.
        if run.folder == file.parent:
            yield run


def _read(file: Path, workspace: Workspace) -> Run:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        profile = RunProfile.model_validate(content["profile"])
        return Run(profile, content["seed"], content["reference"], workspace)
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise WorkspaceError(
            f"{file} cannot be read as a run: {error}",
            hint=f"move {file.parent} away; its experiment can be run again",
        ) from error
