"""What `ragcun eval` does and shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING

from ragcun_cli import console
from ragcun_cli.commands.session import Session, split_names
from ragcun_cli.pipeline import walk
from ragcun_cli.pipeline.baseline_check import TOLERANCE
from ragcun_cli.pipeline.baseline_gate import BaselineGate, sets_to_check
from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.profiles import profile_of_model
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.pipeline.searching import Searching, Shard
from ragcun_cli.pipeline.task import Task
from ragcun_cli.spec.errors import DataError, RagcunError
from ragcun_cli.spec.manifest import Stage

if TYPE_CHECKING:
    from ragcun_cli.pipeline.look import FoundPassage

__all__ = ["EvalSession", "Searching", "Shard"]

SHOWN = ("ndcg@10", "recall@10", "recall@100", "recall@1000", "mrr@10", "map@1000", "judged@10")
"""Metrics of the terminal's table; JSON has all."""

HITS = 10
"""Shown of a query."""

SNIPPET = 160
"""Characters of a text that are shown of it."""


class EvalSession(Session):
    """One `eval` command at work in one workspace."""

    # What to work on

    def names(self, given: Sequence[str] | None) -> list[str] | None:
        """Data sets by name, ``public`` for those that can be downloaded; None for ``all``."""
        names = split_names(given)
        if not names or names == ["all"]:
            return None
        if "all" in names:
            raise RagcunError("'all' stands alone: it means the sets of each run's plan")
        public = [name for name in sources.BEIR if name not in sources.GATED]
        spread = [one for name in names for one in (public if name == "public" else [name])]
        return list(dict.fromkeys(spread))

    def chosen_runs(
        self,
        profile: str | None,
        models: Sequence[str] | None,
        *,
        sets: Sequence[str] | None,
        seeds: Sequence[int] | None,
        datasets: Sequence[str] | None,
    ) -> list[Run]:
        """The runs of a profile and the models that are named; without both, all finished runs."""
        if not models:
            return self.runs(profile, sets=sets, seeds=seeds)
        if profile is None and seeds:
            raise RagcunError("--seed chooses runs of a profile", hint="--profile NAME --seed 1")
        runs = [] if profile is None else self.runs(profile, sets=sets, seeds=seeds)
        named = datasets or self._testable()
        like = runs[0].profile if runs else None
        changes = () if runs else sets or ()  # the profile has them already
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
            if sources.reported_split(name) in self._judged(self._road.place.sets.task(name))
        ]
        if not found:
            raise DataError(
                "there is no data set here to evaluate on", hint="ragcun data get scifact"
            )
        return found

    def _judged(self, task: Task) -> list[str]:
        record = self._runner.record(task)
        return [] if record is None else list(record.details["judged"])

    # Work

    def run(
        self,
        runs: Sequence[Run],
        names: Sequence[str] | None,
        *,
        force: bool,
        prerequisites: bool,
        yes: bool,
    ) -> None:
        """Search, score and show."""
        how = self._road.evaluations.how
        if how.shard is not None and how.merge:
            raise RagcunError("--shard searches, and --merge puts shards together: not both")
        if how.merge:
            self._check_shards(runs, names)
        self.run_stage(Stage.EVAL, runs, names, force=force, prerequisites=prerequisites, yes=yes)
        if how.shard is None:
            self.show_evaluations(runs, names)
        else:
            console.say(f"shard {how.shard} is searched; when all are: ragcun eval --merge")

    def _check_shards(self, runs: Sequence[Run], names: Sequence[str] | None) -> None:
        for run in runs:
            for name in names or run.profile.evaluation.datasets:
                if run.reference != "bm25" and not self._runner.is_current(
                    self._road.evaluations.search(run, name)
                ):
                    self._road.evaluations.check_shards(run, name, self._runner)

    def check_baseline(
        self, runs: Sequence[Run], names: Sequence[str] | None, *, yes: bool
    ) -> None:
        """Evaluate untouched bases where they have published scores, and show both."""
        gate = BaselineGate(
            runs,
            self._road.place,
            self._road.evaluations,
            names or sets_to_check((), self._road.place),
        )
        if not gate.tasks():
            gate.say_what_is_left_out(self._watcher)
            raise DataError("there is nothing to check", hint="ragcun data get scifact nfcorpus")
        consent = walk.Consent(ask=lambda question: console.agree(question, yes=yes))
        walk.bring_up_to_date(gate.tasks, runs, self._road, self._runner, consent)
        found = gate.check(self._runner)
        if self._json:
            console.write_json([asdict(one) for one in found])
        else:
            rows = [
                (
                    one.dataset,
                    f"{one.measured:.5f}",
                    f"{one.published:.5f}",
                    f"{one.difference:+.5f}",
                    "ok" if one.within else "off",
                )
                for one in found
            ]
            columns = ("data set", "nDCG@10", "published", "difference", "")
            console.show_rows(f"Untouched base, tolerance {TOLERANCE:g}", columns, rows)
        gate.require(self._runner)

    def look(
        self, runs: Sequence[Run], query: str, names: Sequence[str] | None, *, yes: bool
    ) -> None:
        """Show what models find for a query that somebody typed."""
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
        consent = walk.Consent(ask=lambda question: console.agree(question, yes=yes))
        walk.bring_up_to_date(
            lambda: [
                *(self._road.trainings.task(run) for run in runs),
                self._road.place.sets.task(names[0]),
            ],
            runs,
            self._road,
            self._runner,
            consent,
        )
        from ragcun_cli.pipeline.look import look

        found = {
            run.label: look(self._road.place, run, names[0], query, HITS, self._watcher)
            for run in runs
        }
        if self._json:
            console.write_json({k: [hit._asdict() for hit in hits] for k, hits in found.items()})
            return
        columns, rows = _side_by_side(found)
        console.show_rows(f"{names[0]}: {query}", columns, rows)

    # Showing

    def show_evaluations(self, runs: Sequence[Run], names: Sequence[str] | None) -> None:
        """Every metric of every run on every set."""
        found: list[tuple[str, str, dict[str, float]]] = []
        for run in runs:
            for name in names or run.profile.evaluation.datasets:
                content = self._road.evaluations.measured(run, name, self._runner)
                if content is not None:
                    found.append((run.label, name, content["metrics"]))
        if self._json:
            keys = ("run", "dataset", "metrics")
            console.write_json([dict(zip(keys, row, strict=True)) for row in found])
            return
        metrics = [name for name in SHOWN if any(name in details for _, _, details in found)]
        rows = [
            (run, name, *(f"{d[m]:.4f}" if m in d else "" for m in metrics))
            for run, name, d in found
        ]
        console.show_rows("Evaluated", ("run", "data set", *metrics), rows)


def _side_by_side(
    found: Mapping[str, Sequence[FoundPassage]],
) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: by rank, what each model found, and where the other one has it."""
    columns, rows = [""], [[f"{rank}"] for rank in range(1, HITS + 1)]
    for label, hits in found.items():
        others = [hits for name, hits in found.items() if name != label]
        columns += [label, "score", *("other's rank" for _ in others), "text"]
        ranks = [{hit.passage: rank for rank, hit in enumerate(one, 1)} for one in others]
        for row, hit in zip_longest(rows, hits[: len(rows)]):
            cells = ["" for _ in others]
            if hit is None:
                row += ["", "", *cells, ""]
            else:
                cells = [f"{place.get(hit.passage, '-')}" for place in ranks]
                row += [hit.passage, f"{hit.score:.4g}", *cells, hit.text[:SNIPPET]]
    return columns, [row for row in rows if any(row[1:])]
