"""The reference `fusion`, by the command line."""

import json

from ragcun_cli.core.rankings.fusion import fused_ranking
from ragcun_cli.pipeline.evaluation.typed_query import QUERY, rank_typed, typed_set
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.search.rankings import read_run
from ragcun_cli.pipeline.stages.runs import runs_on_disk
from ragcun_cli.spec.paths import run_file

SMOKE = ("--profile", "smoke", "--experiment", "frozen_efficient", "--seed", "1")
ROWS = ("--references", "untouched,bm25,fusion")
SET = "smoke-numpy"


def test_it_is_made_of_the_two_rankings_that_are_kept(ragcun, workspace):
    outcome = ragcun("reproduce", *SMOKE, *ROWS, "-w", workspace)
    assert outcome.code == 0, outcome.err
    runs = {run.name: run for run in runs_on_disk(open_workspace(str(workspace)))[0]}
    folder = {name: runs[name].folder / "eval" / SET for name in ("untouched", "bm25", "fusion")}
    first, second, both = (read_run(one / run_file(SET)) for one in folder.values())
    assert len(both) == len(first) > 50
    for query, hits in both.items():
        scores = {}
        for ranking in (first, second):
            for rank, (passage, _) in enumerate(ranking.get(query, []), 1):
                scores[passage] = scores.get(passage, 0.0) + 1 / (60 + rank)
        best = sorted(scores, key=lambda passage: (-round(scores[passage], 12), passage))[:100]
        assert [passage for passage, _ in hits] == best

    metrics = json.loads((folder["fusion"] / "metrics.json").read_text())
    assert metrics["variants"] == {}
    assert len((folder["fusion"] / "per_query.jsonl").read_text().splitlines()) == len(both)
    report = ragcun("report", *SMOKE, *ROWS, "-w", workspace, "--format", "json")
    assert report.code == 0, report.err
    (table,) = (t for t in json.loads(report.out)["tables"] if t["key"] == "results")
    row = next(row for row in table["rows"] if row["model"] == "fusion")
    assert row[SET] == metrics["metrics"]["ndcg@10"]
    assert row["isotropy"] == "none"


def test_it_stands_beside_the_rows_that_it_is_made_of(ragcun, workspace, tmp_path, monkeypatch):
    outcome = ragcun("reproduce", *SMOKE, "--references", "bm25,fusion", "-w", workspace)
    assert outcome.code == 2
    assert "made of the rows untouched and bm25, and references has no untouched" in outcome.err
    assert "--references untouched,bm25,fusion" in outcome.err
    monkeypatch.chdir(tmp_path)
    plan = 'name = "p"\nexperiments = ["with_isotropy"]\nreferences = ["untouched", "fusion"]\n'
    (tmp_path / "p.toml").write_text(plan)
    outcome = ragcun("reproduce", "--profile", "p.toml", "-w", workspace)
    assert outcome.code == 2
    assert "references has no bm25" in outcome.err


def test_a_typed_query_is_answered_by_the_fusion_of_both(ragcun, workspace):
    assert ragcun("reproduce", *SMOKE, *ROWS, "-w", workspace).code == 0
    place = Place(open_workspace(str(workspace)))
    runs = {run.name: run for run in runs_on_disk(place.workspace)[0]}
    typed = typed_set(SET, place.sets.task(SET).folder, "the shape of an array", Silent())
    dense, lexical, both = (
        rank_typed(place, runs[name], typed, Silent())[QUERY]
        for name in ("untouched", "bm25", "fusion")
    )
    expected = fused_ranking(*([passage for passage, _ in one] for one in (dense, lexical)))
    assert len(lexical) > 3
    assert both == expected
