"""The tables and figures of runs, and the stage that writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.report.background import Background
from ragcun_cli.pipeline.report.contrasts import compare, planned_contrasts
from ragcun_cli.pipeline.report.figure import Figure
from ragcun_cli.pipeline.report.figures.calibration import calibration_figures
from ragcun_cli.pipeline.report.figures.isotropy import isotropy_figures
from ragcun_cli.pipeline.report.figures.mining import gather_minings, mining_figures
from ragcun_cli.pipeline.report.formats.formats import (
    EXTENSIONS,
    FIGURE_FILES,
    render,
    write_figures,
)
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.runs import DEMONSTRATION, background_of
from ragcun_cli.pipeline.report.table import Table
from ragcun_cli.pipeline.report.tables.contrasts import answer, contrasts_table, sets_table
from ragcun_cli.pipeline.report.tables.evaluation import evaluation_tables
from ragcun_cli.pipeline.report.tables.isotropy import isotropy_tables
from ragcun_cli.pipeline.report.tables.results import cost_table, measured_sets, results_table
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Details, Task
from ragcun_cli.spec.manifest import Stage
from ragcun_cli.spec.paths import FIGURES
from ragcun_cli.spec.plan import PaperPlan


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

    def action(draft: Path, progress: Progress) -> Details:
        rows = gather(runs, road, runner)
        tables, figures = build_tables(rows, plan), figures_of(rows, road, runner)
        background = answered(rows, plan, road, runner)
        for format_name, extension in EXTENSIONS.items():
            text = render(tables, figures, format_name, title=plan.name, background=background)
            (draft / f"report.{extension}").write_text(text, encoding="utf-8", newline="")
        (draft / FIGURES).mkdir()
        write_figures(figures, draft, drawn)
        return {"tables": len(tables), "figures": len(figures)}

    return Task(
        stage=Stage.REPORT,
        label=f"report {plan.name}",
        folder=road.place.workspace.report(plan.name),
        key="report",
        values={
            "runs": [run.folder.relative_to(road.place.workspace.root).as_posix() for run in runs],
            "contrasts": [one.model_dump(mode="json") for one in plan.contrasts],
            "smallest_effect": plan.smallest_effect,
            "figures": drawn,  # a report that was made before it had any is made again
        },
        action=action,
        outputs=(*files, FIGURES),
        feeds=(),
        needs=tuple(needs),
    )


def tables_of(rows: Sequence[ModelRow], plan: PaperPlan | None = None) -> list[Table]:
    """The tables of gathered rows: one set for those that share data sets and base.

    Args:
        rows: of a plan, or of all finished runs.
        plan: whose contrasts are answered; None takes the default ones.
    """
    groups = _groups(rows)
    return [
        replace(table, key=table.key + suffix)
        for suffix, some in groups.items()
        for table in build_tables(some, plan)
    ]


def build_tables(rows: Sequence[ModelRow], plan: PaperPlan | None) -> list[Table]:
    """The tables of rows that share their data sets; what was not measured is None."""
    tables = [
        *_contrast_tables(rows, plan),
        results_table(rows),
        *isotropy_tables(rows),
        *evaluation_tables(rows),
        cost_table(rows),
    ]
    demonstration = [DEMONSTRATION] if any(row.run.profile.demonstration for row in rows) else []
    seeds = max(len(row.seeds) for row in rows)
    said = [f"Mean and standard deviation over {seeds} seeds."] if seeds > 1 else []
    return [replace(table, notes=(*demonstration, *table.notes, *said)) for table in tables]


def _contrast_tables(rows: Sequence[ModelRow], plan: PaperPlan | None) -> list[Table]:
    """What the plan asks comes first."""
    planned = planned_contrasts(() if plan is None else plan.contrasts, rows)
    _, averaged = measured_sets(rows)
    compared = [compare(one, rows, averaged) for one in planned]
    effect = None if plan is None else plan.smallest_effect
    found = contrasts_table(compared, smallest_effect=effect), sets_table(compared)
    return [table for table in found if table is not None]


def answered(
    rows: Sequence[ModelRow], plan: PaperPlan | None, road: Road, runner: Runner
) -> Background:
    """What a page says beside tables and figures, an answer for each group of rows first."""
    found = []
    for some in _groups(rows).values():
        planned = planned_contrasts(() if plan is None else plan.contrasts, some)
        _, averaged = measured_sets(some)
        found.append(answer([compare(one, some, averaged) for one in planned if one.primary]))
    answers = [said for said in found if said is not None]
    return background_of(rows, road, runner, answers=answers)


def figures_of(rows: Sequence[ModelRow], road: Road, runner: Runner) -> list[Figure]:
    """The figures of gathered rows and of their minings, in the order to print."""
    runs = [seed.run for row in rows for seed in row.seeds]
    figures = mining_figures(gather_minings(runs, road, runner))
    for suffix, some in _groups(rows).items():
        for figure in (*isotropy_figures(some), *calibration_figures(some)):
            figures.append(replace(figure, key=figure.key + suffix))
    return figures


def _groups(rows: Sequence[ModelRow]) -> dict[str, list[ModelRow]]:
    """Suffix of keys -> rows that share data sets, similarity and base, and so stand in one table.

    A model that was named on the command line stands with the first that have its data sets.
    """
    groups: dict[tuple[str, ...], list[ModelRow]] = {}
    for row in sorted(rows, key=lambda row: row.run.is_named_model):
        evaluation = row.run.profile.evaluation
        shared = (evaluation.similarity, *evaluation.datasets)
        key = (row.run.profile.encoder.base, *shared)
        if row.run.is_named_model:
            key = next((known for known in groups if known[1:] == shared), ("", *shared))
        groups.setdefault(key, []).append(row)
    numbered = enumerate(groups.values(), 1)
    return {"" if number == 1 else f"-{number}": rows for number, rows in numbered}
