"""What the commands have in common: a workspace, its road and runner, and how results are shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragcun_cli import console
from ragcun_cli.pipeline import estimate, reporting, walk
from ragcun_cli.pipeline.mining_table import lines
from ragcun_cli.pipeline.model_card import loading_lines
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.profiles import load_plan
from ragcun_cli.pipeline.report.formats import FIGURE_FILES, render, write_figures
from ragcun_cli.pipeline.report.results import gather
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.runs import Run, runs_of
from ragcun_cli.pipeline.searching import ALONE, Searching
from ragcun_cli.pipeline.stages import Runner
from ragcun_cli.pipeline.task import with_needs
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage
from ragcun_cli.spec.plan import PaperPlan


def split_names(given: Sequence[str] | None) -> list[str]:
    """``["a,b", "c"]`` as three names, each once."""
    names = [name.strip() for text in given or [] for name in text.split(",") if name.strip()]
    return list(dict.fromkeys(names))


class Session:
    """One command at work in one workspace."""

    def __init__(
        self,
        workspace: str | None,
        *,
        device: str = "auto",
        as_json: bool = False,
        verify: bool = False,
        mirrors: Sequence[str] = (),
        searching: Searching = ALONE,
    ) -> None:
        self.workspace = open_workspace(workspace)
        self._json = as_json
        self._watcher = console.Watcher()
        place = Place(self.workspace, device=device, mirrors=mirrors)
        self._road = Road.of(place, searching)
        self._runner = Runner(self._watcher, verify=verify)

    # What to work on

    def plan(
        self, name: str, *, sets: Sequence[str] | None, seeds: Sequence[int] | None
    ) -> PaperPlan:
        """A plan, or an experiment and the untouched base, with what the options change."""
        plan = load_plan(name, sets=sets or ())
        return plan if not seeds else replace(plan, seeds=tuple(dict.fromkeys(seeds)))

    def trained_runs(
        self, name: str, *, sets: Sequence[str] | None, seeds: Sequence[int] | None
    ) -> list[Run]:
        """The runs of a profile that are trained."""
        runs = runs_of(self.plan(name, sets=sets, seeds=seeds), self.workspace)
        return [run for run in runs if run.reference is None]

    def runs(
        self, name: str | None, *, sets: Sequence[str] | None, seeds: Sequence[int] | None
    ) -> list[Run]:
        """The runs and references of a profile, or all that the workspace has finished."""
        if name is not None:
            return runs_of(self.plan(name, sets=sets, seeds=seeds), self.workspace)
        if sets:
            raise WorkspaceError(
                "--set changes a profile, and none is named", hint="--profile NAME --set KEY=VALUE"
            )
        found = walk.finished_runs(self._road, self._runner)
        chosen = [run for run in found if not seeds or run.seed is None or run.seed in seeds]
        if seeds and not any(run.reference is None for run in chosen):
            raise WorkspaceError(f"no finished run has seed {seeds}", hint="ragcun report")
        return chosen

    def names_here(self) -> set[str]:
        """The data sets that lie in this workspace."""
        folders = self.workspace.datasets.glob(f"*/{paths.MANIFEST}")
        return {file.parent.name for file in folders if "data" in Manifest.load(file).stages}

    # Work

    def run_stage(
        self,
        stage: Stage,
        runs: Sequence[Run],
        datasets: Sequence[str] | None = None,
        *,
        force: bool,
        prerequisites: bool,
        yes: bool,
    ) -> None:
        """Bring one stage of some runs up to date, and what it rests on."""
        if stage is Stage.EVAL and datasets is None:
            named = {name: None for run in runs for name in run.profile.evaluation.datasets}
            walk.without_absent_gated(list(named), self._road, self._watcher)
        consent = walk.Consent(
            prerequisites=prerequisites,
            force=force,
            ask=lambda question: console.agree(question, yes=yes),
        )
        ran = walk.bring_up_to_date(
            lambda: walk.stage_tasks(stage, runs, self._road, datasets),
            [] if stage is Stage.MINE else runs,  # BM25 needs no encoder
            self._road,
            self._runner,
            consent,
        )
        if not ran:
            console.say("nothing to do: all is current")

    def reproduce(self, plan: PaperPlan, *, baseline_check: bool, yes: bool) -> None:
        """Walk the road of a plan and show its tables."""
        runs = runs_of(plan, self.workspace)
        ran = walk.bring_up_to_date(
            lambda: walk.reproduce_tasks(plan.name, runs, self._road, self._runner),
            runs,
            self._road,
            self._runner,
            walk.Consent(ask=lambda question: console.agree(question, yes=yes)),
            gate=walk.gate_of(runs, self._road) if baseline_check else None,
        )
        console.say(f"{ran} stages ran" if ran else "nothing to do: all is current")
        rows = gather(runs, self._road, self._runner)
        tables = reporting.tables_of(rows)
        if self._json:
            figures = reporting.figures_of(rows, self._road, self._runner)
            console.write(render(tables, figures, "json", title=plan.name))
            return
        for table in tables:
            console.show_table(table)
        self._show_models([run for run in runs if run.reference is None])
        console.say(f"reports: {self.workspace.report(plan.name)}/report.{{tex,md,html,csv,json}}")

    # Showing

    def show_plan(self, plan: PaperPlan) -> None:
        """What is current of a plan and what would run."""
        runs = runs_of(plan, self.workspace)
        tasks = walk.reproduce_tasks(plan.name, runs, self._road, self._runner)
        pending = self._runner.pending(tasks)
        current = [task for task in with_needs(tasks) if self._runner.is_current(task)]
        rows = [(task.stage.value, task.label, "current", "") for task in current]
        rows += [
            (task.stage.value, task.label, "will run", walk.describe(task)) for task in pending
        ]
        total = estimate.duration(sum(task.seconds for task in pending))
        if self._json:
            keys = ("stage", "what", "state", "estimate")
            stages = [dict(zip(keys, row, strict=True)) for row in rows]
            console.write_json({"plan": plan.name, "stages": stages, "total": total})
            return
        shown = [row[1:] for row in rows]
        console.show_rows(f"Plan {plan.name}", ("stage", "state", "estimate"), shown)
        console.say(f"{len(current)} stages current, {len(pending)} to run, {total} in all")

    def show_training(self, runs: Sequence[Run]) -> None:
        """What each training cost, and how to load its model."""
        records = [(run, self._runner.record(self._road.trainings.task(run))) for run in runs]
        if self._json:
            console.write_json(
                [
                    {"run": run.name, "seed": run.seed, "model": str(run.folder / paths.MODEL)}
                    | record.details
                    for run, record in records
                    if record is not None
                ]
            )
            return
        rows = [
            (
                run.label,
                f"{record.details['steps']:,}",
                f"{record.details['trainable_parameters']:,}",
                f"{record.details['training_seconds'] / 60:.1f}",
                f"{record.details['examples_per_second']:.1f}",
            )
            for run, record in records
            if record is not None
        ]
        columns = ("run", "steps", "trainable", "minutes", "examples/s")
        console.show_rows("Trained", columns, rows)
        self._show_models(runs)

    def _show_models(self, runs: Sequence[Run]) -> None:
        for run in runs:
            console.say(f"{run.label}: {run.folder / paths.MODEL}")
        console.say("Load one with:\n" + loading_lines(str(runs[0].folder / paths.MODEL)))

    def show_mining(self, runs: Sequence[Run]) -> None:
        """The counts of each mining."""
        summaries: dict[str, dict[str, Any]] = {}
        for run in runs:
            task = self._road.minings.task(run)
            text = (task.folder / paths.MINING_SUMMARY).read_text(encoding="utf-8")
            summaries[task.label] = {"folder": str(task.folder)} | json.loads(text)
        if self._json:
            console.write_json(summaries)
            return
        for label, summary in summaries.items():
            folder = ("folder", summary.pop("folder"))
            console.show_rows(label, ("", ""), [folder, *lines(summary)])

    def show_negatives(self, runs: Sequence[Run], query: str) -> None:
        """One query with its positive and its negatives, of each mining."""
        from ragcun_cli.pipeline.mined_rows import look_up

        found, scores = {}, {}
        for run in runs:
            task = self._road.minings.task(run)
            data = self._road.place.sets.task(run.profile.data.train)
            found[task.label] = look_up(task.folder, data.folder, query)
            scores[task.label] = "BM25" if run.profile.mining.candidates == "bm25" else "score"
        if self._json:
            console.write_json(found)
            return
        for label, (text, *passages) in found.items():
            rows = [(p["kind"], p["id"], f"{p['score']:.2f}", p["text"]) for p in passages]
            console.show_rows(f"{label}: {text['text']}", ("", "id", scores[label], "text"), rows)

    def show_tables(self, runs: Sequence[Run], *, only: str) -> None:
        """Some tables of the report."""
        rows = gather(runs, self._road, self._runner)
        tables = [t for t in reporting.tables_of(rows) if t.key.split("-")[0] == only]
        if self._json:
            console.write(render(tables, (), "json", title=only))
            return
        for table in tables:
            console.show_table(table)

    def write_report(
        self,
        runs: Sequence[Run],
        format_name: str | None,
        output: Path | None,
        *,
        title: str | None,
    ) -> None:
        """Tables and figures in one format on stdout or in a file; tables for the terminal."""
        rows = gather(runs, self._road, self._runner)
        tables = reporting.tables_of(rows)
        if format_name is None:
            if output is not None:
                raise WorkspaceError(
                    "--output needs a format", hint=f"ragcun report -f latex -o {output}"
                )
            for table in tables:
                console.show_table(table)
            return
        figures = reporting.figures_of(rows, self._road, self._runner)
        text = render(tables, figures, format_name, title=title or "all finished runs")
        kinds = [kind for name, kind in FIGURE_FILES.items() if name == format_name]
        if output is None:
            console.write(text)
            names = ", ".join(f"{figure.key}.{kind}" for figure in figures for kind in kinds)
            if names:
                console.say(f"with --output FILE, {paths.FIGURES}/ beside it gets: {names}")
            return
        try:
            output.write_text(text, encoding="utf-8", newline="")
            files = write_figures(figures, output.parent, kinds)
        except OSError as error:
            raise WorkspaceError(f"{output} cannot be written: {error.strerror}") from error
        for file in (output, *files):
            console.say(f"written: {file}")
