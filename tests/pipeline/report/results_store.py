"""A small store of results, the same on every machine: fractions, no random numbers."""

from pathlib import Path

import numpy as np

from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.tables.isotropy import HUB_COLUMNS
from ragcun_cli.pipeline.report.tasks import Part
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import StageRecord
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import Claim, PaperPlan, PlannedContrast
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))
SETS = {"scifact": {"": 30}, "nfcorpus": {"": 40}, "cqadupstack": {"android": 20, "gis": 25}}
ABSENT = "nq"
GAINS = {"untouched": 0, "bm25": -6, "baseline_no_isotropy": 4, "with_isotropy": 7}


def profile(name):
    datasets = [*SETS, ABSENT]
    values = {"name": name, "evaluation": {"datasets": datasets}, "data": {"train": "msmarco"}}
    return RunProfile.model_validate(values)


def record(**details):
    return StageRecord(
        recipe="r",
        outputs=(),
        seconds=90.0,
        finished="2026-01-02T03:04:05+00:00",
        device="a machine",
        versions={"python": "3.11"},
        commit=None,
        details=details,
    )


def scores(name, seed, part, count):
    queries = np.arange(count)
    raw = (queries * queries * 17 + queries * 5 + len(part) * 29) % 61
    noise = (queries * (7 + (seed or 0) * len(name)) + (seed or 0) * 13) % 11
    return (raw + noise + GAINS[name] + 20) / 128


def results(name, seed, reference):
    columns, metrics = {}, {}
    for dataset, parts in SETS.items():
        values = {part: scores(name, seed, part, count) for part, count in parts.items()}
        queries = {part: f"digest of {part}" for part in parts}
        columns[dataset] = ScoreColumns(queries, {("float32", "ndcg@10"): values})
        mean = float(np.mean([of.mean() for of in values.values()]))
        calibration = dict.fromkeys(
            ("ece", "brier", "brier_of_base_rate", "aurc", "aurc_random", "aurc_best", "auroc"),
            mean / 2,
        )
        metrics[dataset] = {
            "metrics": {"ndcg@10": mean},
            "variants": {},
            "calibration": calibration,
            "hubness": dict.fromkeys((column.key for column in HUB_COLUMNS), 2.5),
            "settings": {},
        }
    run = Run(profile(name if reference is None else "with_isotropy"), seed, reference, SPACE)
    details = {"parameters": 1000, "trainable_parameters": 0 if reference else 1000}
    details |= {"steps": 10, "training_seconds": 60.0, "examples_per_second": 2.5}
    evaluations = {dataset: record() for dataset in SETS}
    return SeedResults(run, record(**details), evaluations, columns, None, metrics, {})


def store():
    """The rows of a plan: two references, and two arms of three seeds."""
    rows = []
    for name in GAINS:
        reference = name if name in ("untouched", "bm25") else None
        seeds = (None,) if reference else (1, 2, 3)
        rows.append(ModelRow(name, tuple(results(name, seed, reference) for seed in seeds)))
    arms = {"arm": "with_isotropy", "against": "baseline_no_isotropy"}
    plan = PaperPlan(
        name="store",
        description="",
        experiments=(profile("baseline_no_isotropy"), profile("with_isotropy")),
        references=("untouched", "bm25"),
        seeds=(1, 2, 3),
        contrasts=(
            PlannedContrast(**arms, primary=True),
            PlannedContrast(arm="with_isotropy", against="untouched"),
        ),
        smallest_effect=5.0,
        claims=(
            Claim(name="A gain above 1 point", measure="gain", above=1.0, **arms),
            Claim(name="An isotropy gain", measure="isotropy_gain", above=0.05, **arms),
        ),
    )
    return Part("store", rows, plan)
