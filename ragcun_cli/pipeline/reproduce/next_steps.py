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
    part: Sequence[str],
) -> list[tuple[str, str]]:
    """What it does and the command, each of which can be pasted.

    Args:
        plan: that was walked.
        rows: of its table.
        workspace: where; it is named unless a command takes it anyway.
        whole: words of a command for all of the plan.
        part: the same for what was asked of it.
    """
    usual = os.environ.get("RAGCUN_WORKSPACE") or "workspace"
    where = [] if workspace == Path(usual) else ["--workspace", str(workspace)]
    steps = [("all tables, not shortened", ["report", "--all"])]
    if (two := _two_models(plan, rows)) and plan.datasets:
        look = ["eval", "--disagreements", "5", *whole, *two, "--datasets", plan.datasets[0]]
        steps.append(("where two models differ most", look))
    change = ["reproduce", *part, "--set", "training.lambda_isotropy=0.5", "--dry-run"]
    steps.append(("what another lambda would run", change))
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
