"""What `ragcun report` shows: of a plan, of the one that was reproduced last, or of all runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from ragcun_cli.pipeline.encoders.published import published_model
from ragcun_cli.pipeline.report import tasks as reporting
from ragcun_cli.pipeline.report.formats.formats import FIGURE_FILES, render, write_figures
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.layout import choose_columns
from ragcun_cli.pipeline.report.licences import README
from ragcun_cli.pipeline.report.paper import paper_facts, write_paper
from ragcun_cli.pipeline.report.push import files_of, one_of, push, size
from ragcun_cli.pipeline.report.review import FINDINGS, review_table
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.report.tables.results import measured_sets
from ragcun_cli.pipeline.reproduce.session import Choice, Session
from ragcun_cli.pipeline.stages.runs import Run, runs_of
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import CheckFailedError, ClaimsError, WorkspaceError
from ragcun_cli.spec.plan import PaperPlan

MOST_SAID = 20
"""Differences of a capsule that are said one by one."""


@dataclass(frozen=True)
class Layout:
    """What of a report is shown, and under which names."""

    all_runs: bool = False
    """Every finished run, by plan."""
    rows: Sequence[str] = ()
    """Only these, in this order."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Row -> what a paper calls it."""
    strict: bool = False
    """Every claim has to be shown."""
    published: Sequence[str] = ()
    """Models whose published scores stand below the rows."""
    columns: str | None = None
    """Of the main table, separated by commas; all without it."""
    transpose: bool | None = None
    """Whether data sets are rows in LaTeX; None decides by their number."""
    paper: Path | None = None
    """Folder for what a paper takes of it."""
    by: str | None = None
    """Column of the queries' metadata, or `length`, to show contrasts within groups by."""
    push: str | None = None
    """Repository that one model goes to, instead of all this."""
    dry_run: bool = False
    """It is only said what would go there."""
    review: bool = False
    """What a reviewer asks, in place of the tables."""
    capsule: Path | None = None
    """Archive of what the numbers rest on, to write instead of all this."""
    check: Path | None = None
    """Such an archive, to compute again."""


@dataclass(frozen=True)
class Report:
    """A report, in the form that was asked for."""

    tables: Sequence[Table] = ()
    """For the terminal."""
    text: str = ""
    """For stdout."""
    notes: Sequence[str] = ()
    """What to say of its files."""


class ReportSession(Session):
    """One `report` command at work in one workspace."""

    _parts: Sequence[reporting.Part] = ()
    _strict = False
    _open: Sequence[str] = ()
    _differing = 0

    def report(
        self, choice: Choice, layout: Layout, *, format_name: str | None, output: Path | None
    ) -> Report:
        """Tables for the terminal, or tables and figures in one format as a text or in files."""
        if (other := self._without_tables(choice, layout, format_name)) is not None:
            return other
        if output is not None and format_name is None:
            raise WorkspaceError(
                "--output needs a format", hint=f"ragcun report -f latex -o {output}"
            )
        self._strict = layout.strict
        for name in layout.published:
            published_model(name)
        self._parts = self._laid_out(self._gathered(choice, layout), layout)
        tables = reporting.tables_of(self._parts, self._review if layout.review else None)
        if layout.by is not None:
            tables += self._by_groups(layout.by)
        if layout.columns is not None:
            tables = choose_columns(tables, layout.columns.split(","))
        tables += [] if layout.review else reporting.licences_of(self._parts, self._road)
        if layout.paper is not None:
            return self._paper(layout.paper, tables, layout)
        if format_name is None:
            return Report(tables=tables)
        drawn = () if layout.review else self._parts
        figures = reporting.figures_of(drawn, self._road, self._runner)
        title = ", ".join(part.title for part in self._parts)
        background = reporting.answered(self._parts, self._road, self._runner)
        text = render(
            tables,
            figures,
            format_name,
            title=title,
            background=background,
            transpose=layout.transpose,
        )
        kinds = [kind for known, kind in FIGURE_FILES.items() if known == format_name]
        if output is None:
            names = ", ".join(f"{figure.key}.{kind}" for figure in figures for kind in kinds)
            said = [f"with --output FILE, {paths.FIGURES}/ beside it gets: {names}"]
            return Report(text=text, notes=said if names else ())
        try:
            output.write_text(text, encoding="utf-8", newline="")
            files = write_figures(figures, output.parent, kinds)
        except OSError as error:
            raise WorkspaceError(f"{output} cannot be written: {error.strerror}") from error
        return Report(notes=[f"written: {file}" for file in (output, *files)])

    def _without_tables(
        self, choice: Choice, layout: Layout, format_name: str | None
    ) -> Report | None:
        """What was asked for instead of tables; None where it is tables."""
        if layout.push is not None:
            return self.push(choice, layout.push, dry_run=layout.dry_run)
        if layout.check is not None:
            return self._check(layout.check, as_json=format_name is not None)
        if layout.capsule is not None:
            return self._capsule(choice, layout.capsule)
        return None

    def _paper(self, folder: Path, tables: Sequence[Table], layout: Layout) -> Report:
        """What a paper takes of the report, in files."""
        rows = [row for part in self._parts for row in part.rows]
        plans = [part.plan for part in self._parts if part.plan is not None]
        named = [shlex.join((plan.name, *plan.options)) for plan in plans]
        facts = paper_facts(rows, self._place, next(iter(named), None))
        figures = reporting.figures_of(self._parts, self._road, self._runner)
        files = write_paper(folder, tables, figures, facts, transpose=layout.transpose)
        return Report(notes=[f"written: {file}" for file in files])

    def push(self, choice: Choice, repo: str, *, dry_run: bool) -> Report:
        """Publish one trained model with its card on the Hub, or say what that would be."""
        every = replace(choice, seeds=None)  # the card has the mean over seeds, too
        rows = [row for part in self._gathered(every, Layout()) for row in part.rows]
        model = one_of(rows, choice.seeds or ())
        files = files_of(model, rows, self._place, self._runner, repo=repo)
        if not dry_run:
            return Report(text=push(repo, files, message=f"{model[1].run.label}, by ragcun"))
        said = [f"{name}: {size(file):,} bytes" for name, file in files.items()]
        card = cast(bytes, files[README]).decode()
        return Report(text=card, notes=[f"nothing was sent; {repo} would get:", *said])

    def _capsule(self, choice: Choice, file: Path) -> Report:
        """What the numbers of a plan rest on, in an archive."""
        from ragcun_cli.pipeline.report.capsule import write_capsule

        parts = self._gathered(choice, Layout())
        if len(parts) != 1 or (plan := parts[0].plan) is None:
            raise WorkspaceError(
                "a capsule is of one plan, and none is named or was reproduced last",
                hint=f"ragcun report --profile quickstart --capsule {file}",
            )
        tables = reporting.tables_of(parts) + reporting.licences_of(parts, self._road)
        write_capsule(file, plan, parts[0].rows, tables, self._road, self._runner)
        size = file.stat().st_size / 1e6
        check = shlex.join(["ragcun", "report", "--check", str(file)])
        return Report(notes=[f"written: {file}, {size:,.1f} MB", f"whoever has it: {check}"])

    def _check(self, file: Path, *, as_json: bool) -> Report:
        """Whether a capsule's numbers come out again."""
        from ragcun_cli.pipeline.report.recheck import check_capsule, depths_table

        found = check_capsule(file, self._progress)
        self._differing = len(found["differences"])
        if as_json:
            return Report(text=json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        said = [f"differs: {one}" for one in found["differences"][:MOST_SAID]]
        return Report(tables=[depths_table(found["numbers"])], notes=[*found["notes"], *said])

    def require_equal(self) -> None:
        """Pass if what was checked came out again, or nothing was.

        Raises:
            CheckFailedError: something did not.
        """
        if self._differing:
            many = f"the capsule differs in {self._differing:,} places"
            raise CheckFailedError(many, hint="the same command with --json names them all")

    def require_claims(self) -> None:
        """Pass if every claim with a number was shown, or nobody asked.

        Raises:
            ClaimsError: one was not, or the report is of no plan that claims anything.
        """
        if not self._strict:
            return
        judged = [one for part in self._parts for one in reporting.judged_claims(part)]
        if not judged:
            raise ClaimsError("this report is of no plan with claims", hint="ragcun profile schema")
        if lacking := [one for one in judged if one.verdict not in ("shown", "see evidence")]:
            named = "; ".join(f"{one.claim.name}: {one.verdict}" for one in lacking)
            raise ClaimsError(f"{len(lacking)} of {len(judged)} claims are not shown: {named}")

    def require_answers(self) -> None:
        """Pass if the records answer what a reviewer asks, or nobody asked.

        Raises:
            CheckFailedError: a question is open.
        """
        if self._open:
            raise CheckFailedError(f"a reviewer's questions are open: {' '.join(self._open)}")

    # What it is of

    def _gathered(self, choice: Choice, layout: Layout) -> list[reporting.Part]:
        if choice.name is not None and layout.all_runs:
            raise WorkspaceError(
                "--profile names one plan, and --all-runs takes every finished run",
                hint="ragcun report --all-runs",
            )
        plan: PaperPlan | None = None
        said = ""
        if choice.name is not None:
            plan = self.plan(choice)
        elif not (layout.all_runs or choice.sets):
            plan, said = self._last_plan(choice)
        if plan is None:
            parts = self._all_runs(choice)
        else:
            parts = [self._part(plan.name, runs_of(plan, self.workspace), plan)]
        if said:
            self._progress.note(said)
        self._runner.say_verified()
        return parts

    def _last_plan(self, choice: Choice) -> tuple[PaperPlan | None, str]:
        """The plan that was reproduced last, or what options leave of it; and what to say of it."""
        try:
            folder = self.workspace.last_report.read_text(encoding="utf-8").strip()
        except OSError:
            folder = ""
        plan = self._plan_of(self.workspace.report(folder)) if folder else None
        if plan is None:
            why = f"the plan of reports/{folder} cannot be read" if folder else "none is on record"
            return None, f"of all finished runs, as no plan was reproduced last: {why}"
        of = " ".join((plan.name, *plan.options))
        part = self.part(plan, choice) if choice.options else plan
        return part, f"of {of}, the plan that was reproduced last; --all-runs takes every run"

    def _plan_of(self, folder: Path) -> PaperPlan | None:
        try:
            return PaperPlan.from_json((folder / paths.PLAN_FILE).read_bytes())
        except (OSError, ValueError):  # none, or one of another version
            return None

    def _all_runs(self, choice: Choice) -> list[reporting.Part]:
        """Every finished run, by the plans that were reproduced here and have it."""
        finished = {run.folder: run for run in self.runs(choice)}
        left = dict(finished)
        every = list(finished.values())
        begun = {run.folder.parent for run in every if run.seed is not None}
        parts = []
        for folder in sorted(self.workspace.reports.glob("[!.]*")):
            plan = self._plan_of(folder)
            found = runs_of(plan, self.workspace) if plan is not None else []
            there = [run for run in found if run.folder in finished or run.folder.parent in begun]
            if any(run.folder in left and run.reference is None for run in there):
                parts.append(self._part(folder.name, there, plan, every))
                for run in there:
                    left.pop(run.folder, None)
        bases = {
            Run(run.profile, None, "untouched", self.workspace).folder
            for run in left.values()
            if run.reference is None
        }
        rest = [run for run in finished.values() if run.folder in left or run.folder in bases]
        title = "other runs" if parts else "all finished runs"
        part = self._part(title, rest, None, every)
        looked_at = [row for row in part.rows if row.run.reference and not row.seeds[0].measured]
        rows = [row for row in part.rows if row not in looked_at]
        return [*parts, replace(part, rows=rows)] if rows else parts

    def _part(
        self, title: str, runs: Sequence[Run], plan: PaperPlan | None, beside: Sequence[Run] = ()
    ) -> reporting.Part:
        columns = reporting.columns_of(plan)
        rows = gather(runs, self._road, self._runner, columns, beside)
        return reporting.Part(title, rows, plan)

    def _by_groups(self, column: str) -> list[Table]:
        """The contrasts of each part within groups of queries."""
        from ragcun_cli.pipeline.report.groups import groups_of, groups_table

        found = []
        for number, part in enumerate(self._parts, 1):
            _, averaged = measured_sets(part.rows)
            folders = {name: self._place.sets.task(name).folder for name in averaged}
            planned = [one.planned for one in reporting.compared_of(part)]
            groups = groups_of(folders, column)
            table = groups_table(planned, part.rows, averaged, groups, column)
            suffix = "" if number == 1 else f"-{number}"
            found.append(replace(table, key=table.key + suffix))
        return found

    def _review(self, part: reporting.Part) -> list[Table]:
        table = review_table(part, self._road, self._runner)
        self._open = [*self._open, *(str(r[0]) for r in table.rows if r[1] == FINDINGS[True])]
        return [table]

    # How it is shown

    def _laid_out(self, parts: Sequence[reporting.Part], layout: Layout) -> list[reporting.Part]:
        """The rows that were asked for, in that order, by the names that were given to them."""
        known = [row.name for part in parts for row in part.rows]
        for name in (*layout.rows, *layout.names):
            if name not in known:
                raise WorkspaceError(
                    f"'{name}' is no row of this report; these are: {', '.join(known)}",
                    hint="ragcun report",
                )
        shown = [layout.names.get(name, name) for name in dict.fromkeys(known)]
        if twice := next((name for name in shown if shown.count(name) > 1), None):
            raise WorkspaceError(f"two rows would be called '{twice}'", hint="--names ROW=NAME")
        found = []
        for part in parts:
            by_name = {row.name: row for row in part.rows}
            chosen = [name for name in dict.fromkeys(layout.rows or by_name) if name in by_name]
            every = [_called(row, layout.names.get(row.name)) for row in part.rows]
            rows = [row for name in chosen for row in every if row.name == name]
            said = replace(part, rows=rows, every=every, published=layout.published)
            found += [said] if rows else []
        return found


def _called(row: ModelRow, title: str | None) -> ModelRow:
    return row if title is None else replace(row, title=title)
