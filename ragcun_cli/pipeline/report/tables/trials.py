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
    queries = profile.training.selection.queries
    parts = next((trial.by_set for arm in plan.tuned for trial in arm.trials if trial.by_set), {})
    return Table(
        key="trials",
        caption="What was tried for each arm",
        columns=(
            Column("arm", "Arm"),
            Column("trial", "Trial"),
            Column("values", "Values"),
            Column("ndcg", "nDCG@10 on held-out queries", digits=2, scale=100),
            *(Column(f"on-{part}", part, digits=2, scale=100) for part in parts),
            Column("chosen", "Chosen"),
        ),
        rows=tuple(
            (
                arm.name,
                number,
                ", ".join(f"{key} = {value}" for key, value in trial.values.items()),
                trial.score,
                *(trial.by_set.get(part) for part in parts),
                "yes" if trial is arm.best else "no" if arm.best else "–",
            )
            for arm in plan.tuned
            for number, trial in enumerate(arm.trials, 1)
        ),
        notes=(
            f"Trials: {'; '.join(counts)}. Each was trained once, with seed {plan.tuning_seed}, "
            f"and scored on up to {queries} queries of {profile.selected_on}, which no table "
            f"reports{'; the score is the mean over sets and forms' * bool(parts)}. The "
            "best, the first of equals, was trained with all seeds; no other was tested.",
        ),
        heading_columns=2,
    )
