"""`ragcun profile init`: a profile that extends another, or a plan for a data set."""

from __future__ import annotations

import shlex
from pathlib import Path

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.profiles.load import refuse_name, write_new, write_profile
from ragcun_cli.pipeline.profiles.own_plan import ENCODER, own_plan
from ragcun_cli.pipeline.reproduce.plans import PlanSession, Walking
from ragcun_cli.pipeline.reproduce.session import Choice
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.spec.errors import DataError, RagcunError
from ragcun_cli.spec.profile import EncoderConfig

LEAST = {"train": 32, "dev": 10, "test": 10}
"""Judged queries of a split that a plan is made for."""

FEW_TESTED = 100
"""Test queries below which is said that intervals will be wide."""


def init_profile(
    name: str,
    progress: Progress,
    *,
    extends: str | None,
    is_plan: bool,
    data: str | None,
    base: str | None,
    workspace: str | None,
    device: str,
) -> Path:
    """Write ./profiles/NAME.toml.

    Args:
        name: of the profile.
        progress: is told what a plan for a set will take.
        extends: what it starts from; None is with_isotropy.
        is_plan: whether it is a plan.
        data: the set that a plan is written for; None extends another profile.
        base: encoder of such a plan; None is all-MiniLM-L6-v2.
        workspace: of the set.
        device: that the plan is for.

    Raises:
        RagcunError: the name is taken or none, options do not go together, or the set is not here
            or has too few judged queries. Nothing is written then.
    """
    if data is None:
        if base is not None:
            raise RagcunError(
                "--base is the encoder of a plan for a set of yours, and --data names none",
                hint=f"ragcun profile init {shlex.quote(name)} --data SET --base {base}",
            )
        return write_new(name, extends=extends or "with_isotropy", is_plan=is_plan)
    if extends is not None:
        raise RagcunError(
            f"--data writes a plan for '{data}', and --extends changes another profile: not both",
            hint=f"ragcun profile init {shlex.quote(name)} --data {shlex.quote(data)}",
        )
    refuse_name(name)
    return _OwnPlan(workspace, progress, device=device).write(name, data, base or ENCODER)


class _OwnPlan(PlanSession):
    def write(self, name: str, data: str, base: str) -> Path:
        self._place.refuse_device((), set())
        counts, machine = self._counts(data), self._place.machine
        config = EncoderConfig(base=base, max_seq_length=128)
        known = self._place.encoder(config) is not None
        text = own_plan(
            name,
            data,
            base,
            counts=counts,
            width=self._place.shape(config).hidden if known else None,
            machine=machine.name,
            gpu=machine.memory > 0,
            bf16=machine.bf16,
        )
        file = write_profile(name, text)
        found = self.reproduce(Choice(str(file)), Walking(dry_run=True))
        assert isinstance(found, dict)
        time = estimate.duration(found["kinds"]["in all"]["seconds"])
        self._progress.note(f"will take {time} on {machine.name}, as guessed by --dry-run")
        if counts["test"] < FEW_TESTED:
            few = f"'{data}' has {counts['test']} test queries"
            self._progress.note(f"{few}: intervals will be wide, and few gains told from 0")
        return file

    def _counts(self, data: str) -> dict[str, int]:
        """Passages of a set, and its judged queries of each split.

        Raises:
            DataError: it is not here, or has too few for a plan.
        """
        if not self._place.sets.is_here(data):
            raise sources.absent_error([data])
        record = self._runner.record(self._place.sets.task(data))
        details = {} if record is None else record.details
        judged = details.get("judged", {})
        splits = {"train": "train", "dev": "dev", "test": sources.reported_split(data)}
        counts = {split: int(judged.get(name, 0)) for split, name in splits.items()}
        if lacking := [split for split, least in LEAST.items() if counts[split] < least]:
            has = ", ".join(f"{split} {count:,}" for split, count in counts.items())
            needs = ", ".join(f"{split} {LEAST[split]}" for split in lacking)
            raise DataError(
                f"'{data}' has too few judged queries for a plan ({has}): it needs {needs} or more",
                hint=f"ragcun data import FILE --name {data} --dev-queries 200 --test-queries 500 "
                "--force, of a table; or a folder with qrels/train.tsv, dev.tsv and test.tsv",
            )
        return counts | {"passages": int(details["passages"])}
