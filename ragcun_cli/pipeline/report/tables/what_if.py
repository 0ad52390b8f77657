"""The tables of a ladder of free changes: each change, and what dev queries choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragcun_cli.pipeline.report.contrasts import POINTS
from ragcun_cli.pipeline.report.rows import MAIN_METRIC
from ragcun_cli.pipeline.report.table import Column, Difference, Table

_DEV = Column("dev", "On dev", digits=2, scale=POINTS)
_SCORE = Column("ndcg", "nDCG@10", digits=2, scale=POINTS)
_DIFFERENCE = Column("difference", "Difference", digits=2, scale=POINTS)


def what_if_tables(found: Mapping[str, Any]) -> list[Table]:
    """Both tables of what `what_if.json` holds; the second only where something was chosen."""
    base = found["untouched"]
    dev = ", ".join(base["dev_by_set"])
    changes = Table(
        key="what-if",
        caption="What free changes of the embeddings would do",
        columns=(
            Column("change", "Change"),
            *(_SCORE, _DIFFERENCE, Column("p_holm", "p, Holm", digits=3, least=0.001), _DEV),
        ),
        rows=(
            (base["name"], base[MAIN_METRIC], "–", "–", base["dev"]),
            *(
                (
                    *(one["name"], one[MAIN_METRIC], Difference(*one["difference"])),
                    *(one["p_holm"], one["dev"]),
                )
                for one in found["rungs"]
            ),
        ),
        notes=(
            f"Points, means over {', '.join(base['by_set'])}. Untouched: fp32, ranked by "
            f"{found['similarity']}. Differences to it are paired by query; Holm's p is over all "
            "changes. Maps and forms are fitted to passages of each set.",
            f"On dev: queries of {dev}." if dev else "Not chosen: no set has dev queries.",
        ),
    )
    if not found["chosen"]:
        return [changes]
    best = Table(
        key="what-if-chosen",
        caption="The best free transform by dev queries",
        columns=(
            Column("form", "Among"),
            Column("name", "Chosen"),
            *(_DEV, Column("dev_untouched", "On dev without", digits=2, scale=POINTS)),
            *(_SCORE, _DIFFERENCE),
        ),
        rows=tuple(
            (
                one["group"],
                one["name"],
                *(one["dev"], one["dev_untouched"]),
                *(one[MAIN_METRIC], Difference(*one["difference"])),
            )
            for one in found["chosen"]
        ),
        notes=(
            "Points. Without, and the difference: the same precision or width of the untouched "
            "embeddings, before any transform; not corrected.",
        ),
    )
    return [changes, best]
