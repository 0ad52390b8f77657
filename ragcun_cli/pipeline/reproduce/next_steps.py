"""What somebody may type next, once a plan was walked to its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ragcun_cli.pipeline.report.contrasts import planned_contrasts
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.plan import PaperPlan


def next_steps(
    plan: PaperPlan,
    rows: Sequence[ModelRow],
    workspace: Path,
    *,
    whole: Sequence[str],
) -> list[tuple[str, str]]:
    """What it does and the command, each of which can be pasted.

    Args:
        plan: that was walked.
        rows: of its table.
        workspace: where; it is named unless a command takes it anyway.
        whole: words of a command for all of the plan.
    """
    usual = os.environ.get("RAGCUN_WORKSPACE") or "workspace"
    where = [] if workspace == Path(usual) else ["--workspace", str(workspace)]
    planned = planned_contrasts(plan.contrasts, rows)
    more = sum(not one.primary for one in planned)
    what = f"all tables, with {more} more contrasts" if more else "all tables, not shortened"
    steps = [(what, ["report", "--all"])]
    if (two := _two_models(plan, rows)) and plan.datasets:
        look = ["eval", "--disagreements", "5", *whole, *two, "--datasets", plan.datasets[0]]
        steps.append(("where two models differ most", look))
    weights = {one.name: one.training.lambda_isotropy for one in plan.experiments}
    arms = [*(one.arm for one in planned), *weights]
    if arm := next((name for name in arms if weights.get(name)), None):
        # For one arm: the one that it is held against has to stay without the term.
        change = ["--experiment", arm, "--set", f"training.lambda_isotropy={2 * weights[arm]:g}"]
        steps.append(
            (f"what another lambda of {arm} would run", ["reproduce", *whole, *change, "--dry-run"])
        )
    typed = [(what, without_home(["ragcun", *words, *where])) for what, words in steps]
    return [(what, shlex.join(words)) for what, words in typed]


def _two_models(plan: PaperPlan, rows: Sequence[ModelRow]) -> list[str]:
    """Options for the two rows of the first primary contrast; none where there is no such."""
    primary = [one for one in planned_contrasts(plan.contrasts, rows) if one.primary]
    named = [name for one in primary[:1] for name in (one.arm, one.against)]
    trained = [profile.name for profile in plan.experiments if profile.name in named]
    others = [name for name in named if name not in trained]
    if not trained:
        return []
    words = [word for name in trained for word in ("--experiment", name)]
    return [*words, "--seed", str(plan.seeds[0]), "--references", ",".join(others) or "none"]
