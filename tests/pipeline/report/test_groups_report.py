"""Contrasts within groups of queries, of sets and scores that are written here."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ragcun_cli.core.rankings.contrasts import contrast
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.storing import store
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.groups import QUARTILES, groups_of, groups_table
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Difference
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import PlannedContrast
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))
COUNT = 40


@pytest.fixture
def folder(tmp_path):
    """A stored set whose queries have a domain, some of them, and from one word on to forty."""
    source = tmp_path / "source"
    (source / "qrels").mkdir(parents=True)
    (source / "corpus.jsonl").write_text(json.dumps({"_id": "p", "title": "", "text": "x"}) + "\n")
    with (source / "queries.jsonl").open("w") as stream:
        for n in range(COUNT):
            row = {"_id": f"q{n:02}", "text": "word " * (n + 1)}
            if n % 4:
                row["metadata"] = {"domain": "law" if n % 4 == 1 else "health", "long": "x" * 200}
            stream.write(json.dumps(row | {"hops": n % 2}) + "\n")
    lines = "".join(f"q{n:02}\tp\t1\n" for n in range(COUNT))
    (source / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    store(source, tmp_path / "set")
    return tmp_path / "set"


def row(name, seeds=(1, 2, 3)):
    profile = RunProfile.model_validate({"name": "x", "evaluation": {"datasets": ["own"]}})
    found = []
    for seed in seeds:
        values = np.random.default_rng([*map(ord, name), seed]).uniform(size=COUNT)
        scores = {"own": ScoreColumns({"": "digest"}, {("float32", "ndcg@10"): {"": values}})}
        metrics = {"own": {"metrics": {"ndcg@10": float(values.mean())}}}
        run = Run(profile, seed, None, SPACE)
        found.append(SeedResults(run, None, {}, scores, None, metrics, {}))
    return ModelRow(name, tuple(found))


def test_a_set_keeps_short_metadata_of_its_queries_and_gives_them_back(folder, tmp_path):
    found = beir.read_query_metadata(folder)
    assert found["q01"] == {"domain": "law", "hops": 1}
    assert found["q00"] == {"hops": 0}
    beir.export_set(folder, tmp_path / "out")
    assert beir.read_query_metadata(tmp_path / "out") == found
    assert beir.read_queries(tmp_path / "out") == beir.read_queries(folder)


@pytest.mark.parametrize(
    ("column", "groups"),
    [
        ("domain", {"law": 1, "health": 2, "not stated": 0}),
        ("hops", {"1": 1, "0": 0}),
    ],
)
def test_the_contrast_of_a_group_is_that_of_its_queries_alone(folder, column, groups):
    rows = [row("a"), row("b")]
    found = groups_of({"own": folder}, column)
    planned = [PlannedContrast(arm="a", against="b", primary=True)]
    table = groups_table(planned, rows, ["own"], found, column)
    assert {cells[1] for cells in table.rows} == set(groups)
    for _, value, sets, queries, difference in table.rows:
        kept = [n for n in range(COUNT) if str(_value(column, n)) == value]
        ours, theirs = (
            np.array([s.scores["own"].values["float32", "ndcg@10"][""][kept] for s in r.seeds])
            for r in rows
        )
        own = contrast({"own": ours - theirs}, {"own": 1.0})
        assert (sets, queries) == (1, len(kept))
        assert difference == Difference(own.mean, *own.interval())
    assert any("Exploratory" in note for note in table.notes)


def _value(column, n):
    if column == "hops":
        return n % 2
    return {0: "not stated", 1: "law"}.get(n % 4, "health")


def test_quarters_by_length_have_a_fourth_of_the_queries_each(folder):
    found = groups_of({"own": folder}, "length")
    assert found["own"][""].tolist() == [quarter for quarter in QUARTILES for _ in range(10)]
    planned = [PlannedContrast(arm="a", against="b")]
    table = groups_table(planned, [row("a"), row("b")], ["own"], found, "length")
    assert [cells[1] for cells in table.rows] == list(QUARTILES)


def test_a_column_that_makes_no_groups_is_refused(folder):
    with pytest.raises(DataError, match="no query of own has a column 'colour'"):
        groups_of({"own": folder}, "colour")
    lines = (folder / "queries.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"number": n} for n, line in enumerate(lines)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(DataError, match="'number' has 40 values"):
        groups_of({"own": folder}, "number")


def test_an_arm_without_scores_takes_no_contrast_of_others(folder):
    rows = [row("a"), row("b"), replace(row("c"), seeds=tuple(map(bare, row("c").seeds)))]
    found = groups_of({"own": folder}, "domain")
    planned = [PlannedContrast(arm="a", against="b"), PlannedContrast(arm="c", against="b")]
    table = groups_table(planned, rows, ["own"], found, "domain")
    by_contrast = {cells[0]: cells[4] for cells in table.rows}
    assert isinstance(by_contrast["a \N{MINUS SIGN} b"], Difference)
    assert by_contrast["c \N{MINUS SIGN} b"] == "not measured"


def bare(seed):
    return replace(seed, scores={})
