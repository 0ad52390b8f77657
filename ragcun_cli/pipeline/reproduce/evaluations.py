"""What `ragcun eval` works on, runs and finds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ragcun_cli.core.folders import is_writable
from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.evaluation.baseline import BaselineGate, sets_to_check
from ragcun_cli.pipeline.evaluation.looked import Looked, looked_at
from ragcun_cli.pipeline.profiles.load import profile_of_model
from ragcun_cli.pipeline.report import tasks as reporting
from ragcun_cli.pipeline.report.figures.contrasts import what_if_figure
from ragcun_cli.pipeline.report.formats.formats import render
from ragcun_cli.pipeline.report.formats.hits_page import render_hits
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.report.tables.contrasts import what_if_table
from ragcun_cli.pipeline.reproduce import walk
from ragcun_cli.pipeline.reproduce.session import Choice, Session, data_set_names
from ragcun_cli.pipeline.reproduce.walk import Consent
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Task
from ragcun_cli.spec.errors import DataError, RagcunError, WorkspaceError
from ragcun_cli.spec.manifest import Stage, write_atomically
from ragcun_cli.spec.paths import WHAT_IF

MOST_MODELS = 6
"""Whose hits for one query are shown."""


@dataclass(frozen=True)
class ToLookAt:
    """What of the hits is to be shown, and where."""

    query: str | None = None
    """One that somebody typed."""
    disagreements: int | None = None
    """How many queries on which two models disagree most."""
    page: Path | None = None
    """File of a web page; None shows it on the terminal."""


class EvaluationSession(Session):
    """One `eval` command at work in one workspace."""

    _gate: BaselineGate | None = None

    def evaluate(
        self,
        choice: Choice,
        *,
        datasets: Sequence[str] | None,
        models: Sequence[str] | None,
        look: ToLookAt,
        baseline_check: bool,
    ) -> Any:  # noqa: ANN401
        """Score models, hold bases against published scores, or look at hits.

        Returns:
            JSON: ``run``, ``dataset`` and ``metrics`` of each evaluation; the fields of each
            `Comparison`. Of hits a list of `Looked`, of a typed query of one; a page of them is
            written. None where a shard was searched, which has no scores yet.
        """
        names = data_set_names(datasets)
        names = names and walk.spread_groups(names, self._place, self._progress)
        runs = self._chosen(choice, models, names)
        if look != ToLookAt():
            return self._looked(runs, look, names)
        if baseline_check:
            return self._compare(runs, names)
        return self._scored(runs, names)

    def isotropy_or_what_if(
        self,
        choice: Choice,
        model: str | None,
        datasets: Sequence[str] | None,
        dev: Sequence[str] | None,
    ) -> tuple[list[Table], str]:
        """Measure isotropy or, of a named model, what free changes of its embeddings would do.

        Args:
            choice: of runs; of a model that is named, ``--set`` alone.
            model: a folder or a name; its report is written, too.
            datasets: to score; all that are here by default.
            dev: whose dev queries choose; those of the data sets that have any by default.

        Returns:
            Tables, and a JSON document: of a model, the text of `what_if.json`.

        Raises:
            RagcunError: options of one stand beside the other.
        """
        rows = choice.name or choice.seeds or choice.experiments or choice.references is not None
        if rows if model else datasets or dev:
            raise RagcunError(
                "--datasets and --dev go with --what-if MODEL, and options of profiles do not",
                hint=f"ragcun isotropy --what-if {model or 'MODEL'} --datasets scifact",
            )
        if model is None:
            tables = self.isotropy(choice)
            return tables, render(tables, (), "json", title="isotropy")
        names = data_set_names(datasets) or self._testable()
        names = walk.spread_groups(names, self._place, self._progress)
        (run,) = self._chosen(Choice(sets=choice.sets), [model], names)
        sets = {name: self._place.sets.task(name) for name in names}
        if self._consent.prerequisites:  # the splits of a set are known once it is here
            self._bring(lambda: [*sets.values()], (), Consent(ask=self._consent.ask))
        judged = {name: {*self._judged(task)} for name, task in sets.items()}
        own = [name for name in names if "dev" in judged[name] - {sources.reported_split(name)}]
        chosen_on = data_set_names(dev) or own

        def ladder() -> Task:
            return self._road.evaluations.what_if(run, names, chosen_on)

        if not self._bring(lambda: [ladder()], [run]):
            self._progress.note("nothing to do: all is current")
        text = self._runner.read(ladder(), WHAT_IF).decode()
        found = json.loads(text)
        tables, figures = [what_if_table(found)], [what_if_figure(found)]
        title = f"what-if-{Path(run.profile.encoder.base).name}"
        folder = self.workspace.report(title)
        if is_writable(folder):  # a workspace of others is shown all the same
            folder.mkdir(parents=True, exist_ok=True)
            reporting.write_report(folder, tables, figures, title=title)
            self._progress.note(f"written: {folder}")
        return tables, text

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
                if run.embeds and not self._runner.is_current(search):
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

    # Looking at hits

    def _looked(
        self, runs: Sequence[Run], look: ToLookAt, names: Sequence[str] | None
    ) -> list[Looked]:
        how = self._road.evaluations.how
        if how.shard is not None or how.merge:
            raise RagcunError("hits are only looked at; --shard and --merge have no part in it")
        if names is None or len(names) != 1:
            raise RagcunError("hits are looked at in one data set", hint="--datasets scifact")
        if look.page is not None and look.page.suffix.lower() not in (".html", ".htm"):
            raise RagcunError(f"{look.page} is to be a web page", hint="--output hits.html")
        titles = [run.label for run in runs]
        labelled = {  # experiments of a plan have starts of one name
            title if titles.count(title) == 1 else f"{title} ({run.folder.name})": run
            for title, run in zip(titles, runs, strict=True)
        }
        fewest, most = (1, MOST_MODELS) if look.disagreements is None else (2, 2)
        if not fewest <= len(labelled) <= most:
            allowed = "two models" if fewest == most else f"up to {most} models"
            some = ", ".join([*labelled][:MOST_MODELS]) + " …" * (len(labelled) > MOST_MODELS)
            raise RagcunError(
                f"hits of {allowed} are looked at, each named once, and here "
                f"{'is' if len(labelled) == 1 else 'are'} {len(labelled)}: {some}",
                hint="--model FOLDER --model FOLDER",
            )
        if look.query is None:
            found = self._disagreements(labelled, names[0], look.disagreements or 0)
            title = f"{names[0]}: where two models disagree most"
        else:
            found = [self._typed(labelled, names[0], look.query)]
            title = f"{names[0]}: {' '.join(look.query.split())}"
        if look.page is not None:
            try:
                write_atomically(look.page, render_hits(found, title=title))
            except OSError as error:
                message = f"{look.page} cannot be written: {error.strerror}"
                raise WorkspaceError(message) from error
            self._progress.note(f"written: {look.page}")
        return found

    def _typed(self, runs: Mapping[str, Run], name: str, query: str) -> Looked:
        from ragcun_cli.pipeline.evaluation.typed_query import QUERY, rank_typed, typed_set

        if not query.strip():
            raise RagcunError("the query is empty", hint='--query "what somebody would ask"')
        trainings, data = self._road.trainings, self._place.sets.task(name)
        made = [trainings.task(run) for run in runs.values() if run.holds_model]
        self._bring(lambda: [*made, data], [*runs.values()], Consent(ask=self._consent.ask))
        self._runner.require_intact([*made, data])
        test = typed_set(name, data.folder, query, self._progress)
        rankings = {
            label: rank_typed(self._place, run, test, self._progress).get(QUERY, [])
            for label, run in runs.items()
        }
        return looked_at(query, test.corpus, rankings, test.qrels[QUERY])

    def _disagreements(self, runs: Mapping[str, Run], name: str, count: int) -> list[Looked]:
        from ragcun_cli.pipeline.evaluation.disagreements import find_disagreements
        from ragcun_cli.pipeline.search.judged import read_judged_sets

        self._run_stage(Stage.EVAL, [*runs.values()], {r.folder: [name] for r in runs.values()})
        tasks, data = self._road.evaluations, self._place.sets.task(name)
        read = [task(run, name) for run in runs.values() for task in (tasks.search, tasks.score)]
        self._runner.require_intact([*read, data])
        tests = read_judged_sets(name, data.folder)
        folders = {label: tasks.folder(run, name) for label, run in runs.items()}
        found = find_disagreements(tests, folders, count)
        if len(found) < count:
            self._progress.note(f"'{name}' has {len(found)} judged queries; all are shown")
        return found
