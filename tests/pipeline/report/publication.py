"""Tables and figures of the size of `publication`: ten rows, 18 sets, 3 seeds; drawn numbers."""

import numpy as np

from ragcun_cli.pipeline.data.sources import GROUPS
from ragcun_cli.pipeline.profiles.load import load_plan
from ragcun_cli.pipeline.report.claims import JudgedClaim
from ragcun_cli.pipeline.report.figure import Estimate, Figure, Forest, Series
from ragcun_cli.pipeline.report.table import Column, Difference, Table, WithDeviation, WithInterval
from ragcun_cli.pipeline.report.tables.claims import claims_table
from ragcun_cli.pipeline.report.tables.contrasts import CONTRAST_COLUMNS, NOTES
from ragcun_cli.pipeline.report.tables.evaluation import CALIBRATION_COLUMNS
from ragcun_cli.pipeline.report.tables.isotropy import MEASURE_COLUMNS
from ragcun_cli.pipeline.report.tables.results import DEV_NOTE, ISOTROPY_NOTE

REFERENCES = ("untouched", "untouched_start", "bm25")
ARMS = (
    *("baseline_no_isotropy", "with_isotropy", "frozen_efficient", "variance_only"),
    *("frozen_no_isotropy", "standard_cosine", "spread_out"),
)
SETS = tuple(GROUPS["beir"])
HOSTILE = (
    r"50%_of_{a}&b #1 $x^2$ ~c\d",
    "λ=0.1, μ≥3 — naïve",
    "a_model_named_so_that_its_name_takes_more_room_than_any_column_of_a_paper_leaves_for_it",
    "unbroken" * 16,
    '[low] *high* <tag> `quote\' --seed "x" | y',
)
"""Names that LaTeX would read as commands, or that no line holds."""


def tables(arms=ARMS, sets=SETS, seed=0):
    """The tables of a report, each number drawn."""
    rng = np.random.default_rng(seed)
    names = (*REFERENCES, *arms)
    return [
        _contrasts(rng, arms),
        _results(rng, names, sets),
        *_others(rng, names),
        _claims(arms),
    ]


def _interval(rng, kind=Difference, scale=0.01):
    value, half = rng.normal(0, scale), abs(rng.normal(scale, scale / 4))
    return kind(value, value - half, value + half)


def _results(rng, names, sets):
    def score(name):
        mean = float(rng.uniform(0.2, 0.8))
        return mean if name in REFERENCES else WithDeviation(mean, float(rng.uniform(0, 0.01)))

    rows = [
        (
            name,
            0 if name in REFERENCES else 111_454_208,
            *(score(name) for _ in sets),
            score(name),
            "reference" if name == names[0] else _interval(rng),
            "none" if name == "bm25" else _interval(rng, WithInterval, 0.1),
        )
        for name in names
    ]
    return Table(
        key="results",
        caption="Retrieval quality",
        columns=(
            Column("model", "Model"),
            Column("trainable_parameters", "Trainable"),
            *(Column(name, name, 1, 100, is_set=True) for name in sets),
            Column("average", f"Average of {len(sets)}", 1, 100),
            Column("difference", f"Difference to {names[0]}", 1, 100),
            Column("isotropy", "Isotropy", 3),
        ),
        rows=tuple(rows),
        best=frozenset((name, key) for name in names[::2] for key in (*sets[::3], "average")),
        daggers=frozenset((name, sets[-1]) for name in names if name != "bm25"),
        notes=(
            "nDCG@10 in points, exact search. The difference is of the averages, with the 95 % "
            "interval of other queries and other training seeds.",
            ISOTROPY_NOTE,
        ),
    )


def _contrasts(rng, arms):
    rows = [
        (
            f"{arm} \N{MINUS SIGN} {against}",
            "primary" if arm == arms[0] else "secondary",
            _interval(rng),
            "not told apart from 0",
            *(float(p) for p in rng.uniform(0, 1, 3)),
            "2 of 3",
            0.0031,
            0.0142,
            "queries (63%)",
        )
        for arm, against in [(arms[0], REFERENCES[2]), *((arm, REFERENCES[0]) for arm in arms)]
    ]
    return Table(
        key="contrasts",
        caption="What the plan asks",
        columns=CONTRAST_COLUMNS,
        rows=tuple(rows),
        notes=NOTES,
    )


def _claims(arms):
    plan = load_plan("publication")
    judged = [
        JudgedClaim(
            claim.model_copy(update={"name": f"{claim.name}: {arms[number % len(arms)]}"}),
            "undecided" if claim.measure == "gain" else "not measured",
            Difference(1.2, -0.3, 2.7) if claim.measure == "gain" else None,
            "over 18 of 18 data sets; 12 seeds would decide it, were the difference as measured",
        )
        for number, claim in enumerate(plan.claims)
    ]
    return claims_table(judged)


def _others(rng, names):
    def of(key, caption, columns, cell, notes=()):
        rows = tuple((name, *(cell(column) for column in columns)) for name in names)
        return Table(key, caption, (Column("model", "Model"), *columns), rows, notes)

    measures = (*MEASURE_COLUMNS, Column("difference", "Difference to untouched_start", 3))
    yield of(
        "isotropy",
        "Isotropy of the query embeddings",
        measures,
        lambda column: 50_000 if column.key == "texts" else _interval(rng, WithInterval),
        ("Over test queries. " * 12,),
    )
    yield of(
        "calibration",
        "Calibration of the best hit's score",
        CALIBRATION_COLUMNS,
        lambda column: WithDeviation(float(rng.uniform()), 0.012),
    )
    costs = (
        *(Column(key, key.capitalize()) for key in ("seeds", "parameters", "trainable", "steps")),
        Column("training_minutes", "Training minutes", 1),
        Column("examples", "Examples/s", 1),
        Column("evaluation_minutes", "Evaluation minutes", 1),
        Column("device", "Device"),
        Column("kept", "Dev nDCG@10, kept model", 1, 100),
        Column("last", "Dev nDCG@10, last model", 1, 100),
    )
    words = {"device": "NVIDIA H100 80GB HBM3 x 8"}
    yield of(
        "cost",
        "Cost",
        costs,
        lambda column: words.get(column.key, 111_454_208 if column.digits is None else 9876.5),
        (DEV_NOTE,),
    )


def figures(names=(*REFERENCES, *ARMS)):
    """One with many lines, one with few, and a forest plot."""
    lines = tuple(
        Series(name, (1.0, 2.0, 4.0, 8.0), (n, n + 1.0, n + 0.5, n + 2.0))
        for n, name in enumerate(names)
    )
    forest = Forest(
        "forest",
        f"{names[-1]} less {names[0]}",
        "Difference of nDCG@10 in points",
        tuple(Estimate(name, 0.5, -0.5, 1.5, (0.2, 0.8)) for name in (*SETS, *names)),
        (Estimate("sets as a sample", 0.5, 0.1, 0.9, (), (-1.0, 2.0)),),
    )
    return [
        *(
            Figure(f"lines-{count}", f"Lines of {names[0]}", "Texts", "Score", lines[:count])
            for count in (3, len(lines))
        ),
        forest,
    ]
