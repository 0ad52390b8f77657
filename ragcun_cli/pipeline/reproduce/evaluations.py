"""What `ragcun eval` works on, runs and finds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.evaluation.baseline import BaselineGate, sets_to_check
from ragcun_cli.pipeline.profiles.load import profile_of_model
from ragcun_cli.pipeline.report import tasks as reporting
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.report.tables.what_if import what_if_tables
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.session import Choice, Session
from ragcun_cli.pipeline.reproduce.walk import Consent
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.errors import DataError, RagcunError
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.paths import WHAT_IF

HITS = 10
"""Shown of a query."""


class EvaluationSession(Session):
    """One `eval` command at work in one workspace."""

    _gate: BaselineGate | None = None

    def evaluate(
        self,
        choice: Choice,
        *,
        datasets: Sequence[str] | None,
        models: Sequence[str] | None,
        query: str | None,
        baseline_check: bool,
    ) -> Any:  # noqa: ANN401
        """Score models, hold bases against published scores, or look at hits of one query.

        Returns:
            JSON: ``run``, ``dataset`` and ``metrics`` of each evaluation; the fields of each
            `Comparison`; or label of a model -> passages, best first, with ``score`` and ``text``.
            None where a shard was searched, which has no scores yet.
        """
        names = data_set_names(datasets)
        names = names and walk.spread_groups(names, self._place, self._progress)
        runs = self._chosen(choice, models, names)
        if query is not None:
            return self._look(runs, query, names)
        if baseline_check:
            return self._compare(runs, names)
        return self._scored(runs, names)

    def what_if(
        self,
        choice: Choice,
        model: str,
        *,
        datasets: Sequence[str] | None,
        dev: Sequence[str] | None,
    ) -> tuple[list[Table], str]:
        """Climb the ladder of free changes of a named model's embeddings, and write its report.

        Args:
            choice: of which ``--set`` counts.
            model: a folder or a name.
            datasets: to score; all that are here by default.
            dev: whose dev queries choose; those of the data sets that have any by default.

        Returns:
            The tables of the report, and the text of `what_if.json`.

        Raises:
            RagcunError: the choice names a profile, or rows of one.
        """
        if choice.name or choice.seeds or choice.experiments or choice.references is not None:
            raise RagcunError(
                "--what-if takes a model as it is, without a profile or rows of one",
                hint=f"ragcun isotropy --what-if {model} --datasets scifact",
            )
        names, wanted = data_set_names(datasets), data_set_names(dev)
        names = walk.spread_groups(names or self._testable(), self._place, self._progress)
        sets = {name: self._place.sets.task(name) for name in (*names, *(wanted or ()))}
        if self._consent.prerequisites:  # which splits a set has is known once it is here
            self._bring(lambda: [*sets.values()], (), replace(self._consent, force=False))
        if wanted is None:
            judged = [name for name in names if "dev" in self._judged(sets[name])]
            wanted = [name for name in judged if sources.reported_split(name) != "dev"]
        (run,) = self._chosen(Choice(sets=choice.sets), [model], names)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(run.profile.encoder.base).name)
        folder = self.workspace.report(f"what-if-{stem}")

        def tasks() -> list[Task]:
            ladder = self._road.evaluations.what_if(run, names, wanted)
            return [ladder, reporting.what_if_report(ladder, folder, self._runner)]

        if not self._bring(tasks, [run]):
            self._progress.note("nothing to do: all is current")
        self._progress.note(f"the report: {folder}")
        text = self._runner.read(tasks()[0], WHAT_IF).decode()
        return what_if_tables(json.loads(text)), text

    def require_reproduced(self) -> None:
        """Pass if bases that were held against published scores came back; none does.

        Raises:
            NotReproducedError: a score did not.
        """
        if self._gate is not None:
            self._gate.require(self._runner)

    # What to work on

    def _chosen(
        self, choice: Choice, models: Sequence[str] | None, datasets: Sequence[str] | None
    ) -> list[Run]:
        """The runs of a profile and the models that are named; without both, all finished runs."""
        if not models:
            return self.runs(choice)
        if choice.name is None and (choice.seeds or choice.experiments or choice.references):
            raise RagcunError(
                "--seed, --experiment and --references choose rows of a profile",
                hint="--profile NAME --seed 1",
            )
        runs = [] if choice.name is None else self.runs(choice)
        named = datasets or self._testable()
        like = runs[0].profile if runs else None
        changes = () if runs else choice.sets or ()  # the profile has them already
        profiles = [
            profile_of_model(model, named, like=like, sets=changes)
            for model in dict.fromkeys(models)
        ]
        return [*runs, *(Run(p, None, "untouched", self.workspace) for p in profiles)]

    def _testable(self) -> list[str]:
        """The data sets that are here and have judgements to report on."""
        found = [
            name
            for name in sorted(self.names_here())
            if sources.reported_split(name) in self._judged(self._place.sets.task(name))
        ]
        if not found:
            raise DataError(
                "there is no data set here to evaluate on", hint="ragcun data get scifact"
            )
        return found

    def _judged(self, task: Task) -> list[str]:
        record = self._runner.record(task)
        return [] if record is None else list(record.details["judged"])

    # What to run, and what was found

    def _scored(
        self, runs: Sequence[Run], names: Sequence[str] | None
    ) -> list[dict[str, Any]] | None:
        how = self._road.evaluations.how
        if how.shard is not None and how.merge:
            raise RagcunError("--shard searches, and --merge puts shards together: not both")
        sets = walk.datasets_of(runs, self._place, self._progress, names)
        asked = [(run, name) for run in runs for name in sets[run.folder]]
        if how.merge:
            for run, name in asked:
                search = self._road.evaluations.search(run, name)
                if run.reference != "bm25" and not self._runner.is_current(search):
                    self._road.evaluations.check_shards(run, name, self._runner)
        self._run_stage(Stage.EVAL, runs, sets)
        if how.shard is not None:
            self._progress.note(f"shard {how.shard} is searched; when all are: ragcun eval --merge")
            return None
        return [
            {"run": run.label, "dataset": name, "metrics": content["metrics"]}
            for run, name in asked
            if (content := self._road.evaluations.measured(run, name, self._runner))
        ]

    def _compare(self, runs: Sequence[Run], names: Sequence[str] | None) -> list[dict[str, Any]]:
        """Evaluate untouched bases where they have published scores."""
        sets = names or sets_to_check((), self._place)
        gate = BaselineGate(runs, self._place, self._road.evaluations, sets)
        if not gate.tasks():
            gate.say_what_is_left_out(self._progress)
            raise DataError("there is nothing to check", hint="ragcun data get scifact nfcorpus")
        self._bring(gate.tasks, runs, Consent(ask=self._consent.ask))
        self._gate = gate
        return [asdict(one) for one in gate.check(self._runner)]

    def _look(
        self, runs: Sequence[Run], query: str, names: Sequence[str] | None
    ) -> dict[str, list[dict[str, Any]]]:
        from ragcun_cli.pipeline.evaluation.typed_query import look

        if not query.strip():
            raise RagcunError("the query is empty", hint='--query "what somebody would ask"')
        how = self._road.evaluations.how
        if how.shard is not None or how.merge:
            raise RagcunError("--query looks at hits; --shard and --merge have no part in it")
        if names is None or len(names) != 1:
            raise RagcunError("a query is searched in one data set", hint="--datasets scifact")
        if not 1 <= len(runs) <= 2:
            listed = ", ".join(run.label for run in runs[:6])
            raise RagcunError(
                f"one or two models are shown side by side, and these are {len(runs)}: {listed}",
                hint="--model FOLDER --model FOLDER",
            )
        trainings, data = self._road.trainings, self._place.sets.task(names[0])
        consent = Consent(ask=self._consent.ask)
        made = [run for run in runs if run.holds_model]
        self._bring(lambda: [*map(trainings.task, made), data], runs, consent)
        self._runner.require_intact([*map(trainings.task, made), data])
        return {
            run.label: [
                hit._asdict()
                for hit in look(self._place, run, names[0], query, HITS, self._progress)
            ]
            for run in runs
        }


def data_set_names(given: Sequence[str] | None) -> list[str] | None:
    """Data sets by name or by the name of a group; None for ``all``."""
    split = [name.strip() for text in given or [] for name in text.split(",")]
    names = list(dict.fromkeys(name for name in split if name))
    if not names or names == ["all"]:
        return None
    if "all" in names:
        raise RagcunError("'all' stands alone: it means the sets of each run's plan")
    return names
