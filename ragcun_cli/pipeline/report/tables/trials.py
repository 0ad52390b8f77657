"""The table of trials: what was tried for each tuned arm, and which values were chosen."""

from __future__ import annotations

from ragcun_cli.pipeline.report.table import Column, Table
from ragcun_cli.spec.plan import PaperPlan


def trials_table(plan: PaperPlan | None) -> Table | None:
    """Every trial with its score on the selection set; None where nothing is tuned."""
    if plan is None or not plan.tuned:
        return None
    counts = [f"{arm.name} had {len(arm.trials)} of {arm.cells} cells" for arm in plan.tuned]
    profile = plan.tuned[0].trials[0].profile
    name, split = profile.selection_set
    queries = profile.training.selection.queries
    return Table(
        key="trials",
        caption="What was tried for each arm",
        columns=(
            Column("arm", "Arm"),
            Column("trial", "Trial"),
            Column("values", "Values"),
            Column("ndcg", "nDCG@10 on held-out queries", digits=2, scale=100),
            Column("chosen", "Chosen"),
        ),
        rows=tuple(
            (
                arm.name,
                number,
                ", ".join(f"{key} = {value}" for key, value in trial.values.items()),
                trial.score,
                "yes" if trial is arm.best else "no" if arm.best else "–",
            )
            for arm in plan.tuned
            for number, trial in enumerate(arm.trials, 1)
        ),
        notes=(
            f"Trials: {'; '.join(counts)}. Each was trained once, with seed {plan.tuning_seed}, "
            f"and scored on {queries} queries of {name} ({split}), which no table reports. The "
            "best, the first of equals, was trained with all seeds; no other was tested.",
        ),
        heading_columns=2,
    )
