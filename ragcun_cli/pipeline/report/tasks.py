"""The tables and figures of runs, and the stage that writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumn
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.report.advice import advice_of
from ragcun_cli.pipeline.report.background import Background
from ragcun_cli.pipeline.report.card import write_cards
from ragcun_cli.pipeline.report.claims import Evidence, JudgedClaim, judge
from ragcun_cli.pipeline.report.contrasts import Compared, compare, planned_contrasts
from ragcun_cli.pipeline.report.figure import Drawing
from ragcun_cli.pipeline.report.figures.calibration import calibration_figures
from ragcun_cli.pipeline.report.figures.contrasts import forest_figure, quality_figures
from ragcun_cli.pipeline.report.figures.isotropy import isotropy_figures
from ragcun_cli.pipeline.report.figures.mining import gather_minings, mining_figures
from ragcun_cli.pipeline.report.figures.training import training_figures
from ragcun_cli.pipeline.report.formats.formats import (
    EXTENSIONS,
    FIGURE_FILES,
    render,
    write_figures,
)
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.licences import licences_table
from ragcun_cli.pipeline.report.rows import MAIN_METRIC, ModelRow
from ragcun_cli.pipeline.report.runs import DEMONSTRATION, background_of
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.report.tables.claims import claims_table
from ragcun_cli.pipeline.report.tables.contrasts import (
    answers,
    contrasts_table,
    primary_of,
    sets_table,
    what_differs,
)
from ragcun_cli.pipeline.report.tables.evaluation import evaluation_tables
from ragcun_cli.pipeline.report.tables.isotropy import isotropy_tables
from ragcun_cli.pipeline.report.tables.results import (
    cost_table,
    measured_sets,
    reference_of,
    results_table,
)
from ragcun_cli.pipeline.report.tables.trials import trials_table
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.spec.manifest import Stage, digest
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.paths import CARDS, FIGURES, PLAN_FILE
from ragcun_cli.spec.plan import PaperPlan, PlannedContrast


def report_task(
    plan: PaperPlan, runs: Sequence[Run], needs: Sequence[Task], road: Road, runner: Runner
) -> Task:
    """Write the tables and figures of a plan in every format.

    Args:
        plan: whose contrasts are answered.
        runs: its rows.
        needs: what the numbers rest on.
        road: of the runs.
        runner: knows what is current.
    """
    files = tuple(f"report.{extension}" for extension in EXTENSIONS.values())
    drawn = sorted(FIGURE_FILES.values())
    trained_on = {run.profile.data.train for run in runs if run.holds_model}

    def action(draft: Path, progress: Progress) -> Details:
        rows = gather(runs, road, runner, columns_of(plan))
        (draft / PLAN_FILE).write_bytes(plan.to_json())
        parts = [Part(plan.name, rows, plan)]
        tables = [*tables_of(parts), *licences_of(parts, road)]
        figures = figures_of(parts, road, runner)
        background = answered(parts, road, runner)
        write_cards(draft / CARDS, rows, road.place, runner)
        return write_report(draft, tables, figures, title=plan.name, background=background)

    return Task(
        stage=Stage.REPORT,
        label=f"report {plan.name}",
        folder=road.place.workspace.report(plan.folder),
        key="report",
        values={
            "runs": [run.folder.relative_to(road.place.workspace.root).as_posix() for run in runs],
            "plan": digest(json.loads(plan.to_json())),
            "licences": {name: [*road.place.sets.licence(name)] for name in sorted(trained_on)},
            "figures": drawn,  # a report that was made before it had any is made again
        },
        action=action,
        outputs=(*files, FIGURES, CARDS, PLAN_FILE),
        feeds=(),
        needs=tuple(needs),
        work=Workload(seconds=8 + 0.05 * len(needs), disk_bytes=2.5e6),
    )


def write_report(
    folder: Path,
    tables: Sequence[Table],
    figures: Sequence[Drawing],
    *,
    title: str,
    background: Background | None = None,
) -> Details:
    """Write tables and figures in every format; how many there are."""
    for format_name, extension in EXTENSIONS.items():
        text = render(tables, figures, format_name, title=title, background=background)
        (folder / f"report.{extension}").write_text(text, encoding="utf-8", newline="")
    (folder / FIGURES).mkdir(exist_ok=True)
    write_figures(figures, folder, sorted(FIGURE_FILES.values()))
    return {"tables": len(tables), "figures": len(figures)}


def columns_of(plan: PaperPlan | None) -> set[ScoreColumn]:
    """The scores by query that the contrasts of a plan need."""
    return set() if plan is None else {(one.form, one.metric) for one in plan.contrasts}


@dataclass(frozen=True)
class Part:
    """Rows that belong together: those of a plan, or those that no plan has."""

    title: str
    rows: Sequence[ModelRow]
    plan: PaperPlan | None = None
    """Whose contrasts are answered and whose claims are judged; None takes the default ones."""
    published: Sequence[str] = ()
    """Models whose published scores stand below the rows of results."""
    every: Sequence[ModelRow] = ()
    """The rows with those that are not shown, by which contrasts and claims are judged all the
    same; none where all are shown."""

    @property
    def known(self) -> Sequence[ModelRow]:
        """All rows, shown or not."""
        return self.every or self.rows


def tables_of(
    parts: Sequence[Part],
    build: Callable[[Part], list[Table]] | None = None,
) -> list[Table]:
    """The tables of a report: one set for rows that share data sets and base.

    Args:
        parts: of the report.
        build: makes the tables of such rows; all of them by default.
    """
    groups = _groups(parts)
    tables = []
    for suffix, part in groups.items():
        for table in (build or build_tables)(part):
            more = f": {part.title}" if len(groups) > 1 else ""
            tables.append(replace(table, key=table.key + suffix, caption=f"{table.caption}{more}"))
    return tables


def licences_of(parts: Sequence[Part], road: Road) -> list[Table]:
    """The table of licences, for after all others."""
    table = licences_table([row for part in parts for row in part.rows], road.place)
    return [] if table is None else [table]


def answers_of(parts: Sequence[Part]) -> list[str]:
    """The advice and what the primary contrasts say, of each group of rows that was measured."""
    said = []
    for part in _groups(parts).values():
        compared = compared_of(part)
        said += [*_advice(part), *answers(compared, _effect(part)), *what_differs(compared)]
    return said


def answered(parts: Sequence[Part], road: Road, runner: Runner) -> Background:
    """What a page says beside tables and figures, the answers first."""
    rows = [row for part in parts for row in part.rows]
    return background_of(rows, road, runner, answers=answers_of(parts))


def judged_claims(part: Part) -> list[JudgedClaim]:
    """What became of the claims of a plan."""
    if part.plan is None:
        return []
    _, averaged = measured_sets(part.known)
    evidence = Evidence(part.known, averaged, part.plan.datasets, part.plan.command)
    return [judge(claim, evidence) for claim in part.plan.claims]


def build_tables(part: Part) -> list[Table]:
    """The tables of rows that share their data sets; what was not measured is None."""
    rows = part.rows
    every = _all_compared(part)
    compared = _shown(every, part)
    asked = (
        contrasts_table(compared, every, smallest_effect=_effect(part)),
        claims_table(judged_claims(part)),
        trials_table(part.plan),
        sets_table(compared),
    )
    results = results_table(rows, part.published)
    first = [replace(table, notes=(*_advice(part), *table.notes)) for table in asked[:1] if table]
    tables = [
        *first,
        *(table for table in asked[1:] if table is not None),
        replace(results, notes=(*results.notes, *_missing(results, part), *_exploratory(part))),
        *isotropy_tables(rows),
        *evaluation_tables(rows),
        cost_table(rows),
    ]
    demonstration = [DEMONSTRATION] if any(row.run.profile.demonstration for row in rows) else []
    return [replace(table, notes=(*demonstration, *table.notes)) for table in tables]


def _missing(results: Table, part: Part) -> list[str]:
    """The command that measures what was not, where something was not."""
    if not any(cell is None for row in results.rows for cell in row):
        return []
    command = "ragcun eval" if part.plan is None else part.plan.command
    return [f"What was not measured is in no average; `{command}` measures it."]


def _exploratory(part: Part) -> list[str]:
    """The differences to the first row that the plan does not name."""
    main = MAIN_METRIC, FULL_FORM
    named = [{one.arm, one.against} for one in _planned(part) if (one.metric, one.form) == main]
    first = reference_of(part.rows)
    others = [row for row in part.rows if row is not first]
    found = [row.shown for row in others if {row.name, first.name} not in named]
    return [f"Exploratory, as no planned contrasts: the differences of {', '.join(found)}."] * bool(
        found
    )


def compared_of(part: Part) -> list[Compared]:
    """The planned contrasts of rows that are shown."""
    return _shown(_all_compared(part), part)


def _shown(compared: Sequence[Compared], part: Part) -> list[Compared]:
    names = {name for row in part.rows for name in (row.name, row.run.name)}
    return [one for one in compared if {one.planned.arm, one.planned.against} <= names]


def _all_compared(part: Part) -> list[Compared]:
    _, averaged = measured_sets(part.known)
    return [compare(one, part.known, averaged) for one in _planned(part)]


def _planned(part: Part) -> list[PlannedContrast]:
    return planned_contrasts(() if part.plan is None else part.plan.contrasts, part.known)


def _advice(part: Part) -> list[str]:
    return advice_of(part.plan, part.known, measured_sets(part.known)[1])


def _effect(part: Part) -> float | None:
    return None if part.plan is None else part.plan.smallest_effect


def figures_of(parts: Sequence[Part], road: Road, runner: Runner) -> list[Drawing]:
    """The figures of gathered rows and of their minings, the primary contrast first."""
    figures: list[Drawing] = []
    for suffix, part in _groups(parts).items():
        _, averaged = measured_sets(part.rows)
        forest = forest_figure(primary_of(compared_of(part)))
        drawn: list[Drawing] = [
            *([] if forest is None else [forest]),
            *training_figures(part.rows, road, runner),
            *quality_figures(part.rows, averaged),
            *isotropy_figures(part.rows),
            *calibration_figures(part.rows),
        ]
        figures += [replace(figure, key=figure.key + suffix) for figure in drawn]
    runs = [seed.run for part in parts for row in part.rows for seed in row.seeds]
    return [*figures, *mining_figures(gather_minings(runs, road, runner))]


def _groups(parts: Sequence[Part]) -> dict[str, Part]:
    """Suffix of keys -> rows that share data sets, similarity and base, and so stand in one table.

    A model that was named on the command line stands with the first that have its data sets.
    """
    groups: list[Part] = []
    for part in parts:
        found: dict[tuple[str, ...], list[ModelRow]] = {}
        for row in sorted(part.known, key=lambda row: row.run.is_named_model):
            evaluation = row.run.profile.evaluation
            shared = (evaluation.similarity, *evaluation.datasets)
            key = (row.run.profile.encoder.base, *shared)
            if row.run.is_named_model:
                key = next((known for known in found if known[1:] == shared), ("", *shared))
            found.setdefault(key, []).append(row)
        for every in found.values():
            rows = [row for row in part.rows if row in every]
            groups += [replace(part, rows=rows, every=every)] if rows else []
    return {"" if number == 1 else f"-{number}": part for number, part in enumerate(groups, 1)}
