"""`ragcun profile init`: a profile that extends another, or a plan for a data set."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.proxy.settings import ROUND_TRIP_BASE, ROUND_TRIP_LENGTH
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.profiles.load import load_plan, refuse_name, write_new, write_profile
from ragcun_cli.pipeline.report.advice import FEW_TESTED
from ragcun_cli.pipeline.reproduce.dry_run import planned
from ragcun_cli.pipeline.reproduce.plan_work import PlanWork
from ragcun_cli.pipeline.reproduce.session import Session
from ragcun_cli.pipeline.stages.estimate import Machine, duration
from ragcun_cli.spec.errors import DataError, RagcunError
from ragcun_cli.spec.profile import EncoderConfig

LEAST = {"train": 32, "dev": 10, "test": 10}
"""Judged queries of a split that a plan is made for."""

FULL_QUERIES = 2_000
"""Training queries from which on a GPU trains the whole encoder; of fewer, the head alone."""

WHOLE_CORPUS = 300_000
"""Passages up to which dev queries are ranked among all of them, on a frozen base."""

_FEWER_PASSAGES = 10_000
_FROZEN_STEPS, _FROZEN_BATCH = 300, 512
_FULL_STEPS, _FULL_BATCH, _FULL_PASSES = 3_000, 64, 3


class ProfileSession(Session):
    """A `profile init` at work in one workspace."""

    def init_profile(
        self, name: str, *, extends: str | None, is_plan: bool, data: str | None, base: str | None
    ) -> Path:
        """Write ./profiles/NAME.toml.

        Args:
            name: of the profile.
            extends: what it starts from; None is with_isotropy.
            is_plan: whether it is a plan.
            data: the set that a plan is written for; None extends another profile.
            base: encoder of such a plan; None is all-MiniLM-L6-v2.

        Raises:
            RagcunError: the name is taken or none, options do not go together, or the set is not
                here or has too few judged queries. Nothing is written then.
        """
        again = f"ragcun profile init {shlex.quote(name)} --data {shlex.quote(data or 'SET')}"
        if data is None and base is not None:
            what = "--base is the encoder of a plan for a set of yours, and --data names none"
            raise RagcunError(what, hint=f"{again} --base {shlex.quote(base)}")
        if data is None:
            return write_new(name, extends=extends or "with_isotropy", is_plan=is_plan)
        if extends is not None:
            what = f"--data writes a plan for '{data}', and --extends changes another profile"
            raise RagcunError(f"{what}: not both", hint=again)
        refuse_name(name)
        return self._write(name, data, base or ROUND_TRIP_BASE)

    def _write(self, name: str, data: str, base: str) -> Path:
        self._place.refuse_device((), set())
        counts, machine = self._counts(data), self._place.machine
        config = EncoderConfig(base=base)
        found = self._place.encoder(config)
        width = None if found is None else self._place.shape(config).hidden
        known = {} if found is None else found.config() or {}
        positions = int(known.get("max_position_embeddings", 512)) - 2  # which some leave free
        length = min(ROUND_TRIP_LENGTH, positions)
        sizes = counts | {"length": length}
        text = own_plan(name, data, base, counts=sizes, width=width, machine=machine)
        file = write_profile(name, text)
        work = PlanWork.of(load_plan(str(file)), self._road, self._runner, Silent())
        tasks = [*work.tasks(work.every), work.report()]
        guessed = planned(work.plan, tasks, self._road, self._runner, lambda task: None)
        time = duration(guessed["kinds"]["in all"]["seconds"])
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
        record = self._runner.record(self._place.sets.task(data))
        if record is None:
            raise sources.absent_error([data], self.names_here())
        splits = {"train": "train", "dev": "dev", "test": sources.reported_split(data)}
        judged = record.details["judged"]
        counts = {split: int(judged.get(name, 0)) for split, name in splits.items()}
        if lacking := [split for split, least in LEAST.items() if counts[split] < least]:
            has = ", ".join(f"{split} {count:,}" for split, count in counts.items())
            needs = ", ".join(f"{split} {LEAST[split]}" for split in lacking)
            hint = (
                f"ragcun data import FOLDER --name {data} --pairs first-sentence --force, or "
                "another --pairs; or more documents"
                if "proxy" in record.details
                else f"ragcun data import FILE --name {data} --dev-queries 200 --test-queries 500 "
                "--force, of a table; or a folder with qrels/train.tsv, dev.tsv and test.tsv"
            )
            raise DataError(
                f"'{data}' has too few judged queries for a plan ({has}): it needs {needs} or more",
                hint=hint,
            )
        return counts | {"passages": int(record.details["passages"])}


def own_plan(
    name: str,
    data: str,
    base: str,
    *,
    counts: Mapping[str, int],
    width: int | None,
    machine: Machine,
) -> str:
    """The text of a plan's TOML file, in which comments say why each value is what it is.

    Args:
        name: of the plan.
        data: that it is trained and tested on.
        base: the encoder.
        counts: of ``passages``, of ``train``, ``dev`` and ``test`` queries, and ``length``, the
            word pieces that are read of a text.
        width: of the base's embeddings; None where it is not here.
        machine: that it is for.
    """
    from jinja2 import Environment, StrictUndefined

    passages, train, gpu = counts["passages"], counts["train"], machine.memory > 0
    frozen = not gpu or train < FULL_QUERIES
    batch = min(_FROZEN_BATCH if frozen else _FULL_BATCH, 2 ** ((train // 8).bit_length() - 1))
    steps = _FROZEN_STEPS if frozen else min(_FULL_STEPS, _FULL_PASSES * train // batch)
    whole = frozen and passages <= WHOLE_CORPUS
    jinja = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    source = files(__package__).joinpath("own_plan.toml.jinja").read_text(encoding="utf-8")
    return jinja.from_string(source).render(
        counts,
        **{"name": name, "data": data, "base": json.dumps(base), "width": width, "gpu": gpu},
        **{"machine": machine, "frozen": frozen, "batch": batch, "steps": steps},
        ranked=passages if whole else min(passages, _FEWER_PASSAGES),
        full_queries=FULL_QUERIES,
    )
