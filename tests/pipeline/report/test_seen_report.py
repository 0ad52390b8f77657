"""Which scores of the results table are on data that a training saw, and published rows."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from ragcun_cli.console import show_table
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.report.formats.html_page import render_html
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.formats.latex import render_latex
from ragcun_cli.pipeline.report.formats.markdown import render_markdown
from ragcun_cli.pipeline.report.formats.tidy_csv import render_csv
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.report.tables.results import results_table
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import RunProfile

SPACE = Workspace(root=Path("w"), data=Path("w/data"))
MPNET = "sentence-transformers/all-mpnet-base-v2"
SCORES = {"nq": 0.5, "fiqa": 0.4, "scifact": 0.6, "msmarco": 0.3}


def row(label, *, reference=None, base=MPNET, train="msmarco", samples=None, **scores):
    scores = scores or SCORES
    values = {
        "name": "x",
        "encoder": {"base": base},
        "data": {"train": train},
        "evaluation": {"datasets": list(scores)},
    }
    profile = RunProfile.model_validate(values)
    measured = {name: score for name, score in scores.items() if score is not None}
    columns = {
        name: ScoreColumns({"": "digest"}, {("float32", "ndcg@10"): {"": np.full(3, score)}})
        for name, score in measured.items()
    }
    metrics = {name: {"metrics": {"ndcg@10": score}} for name, score in measured.items()}
    run = Run(profile, None if reference else 1, reference, SPACE)
    found = SeedResults(run, None, {}, columns, None, metrics, samples or {})
    return ModelRow(label, (found,))


def daggers(table):
    return {
        (cells[0], column.key)
        for cells in table.rows
        for index, column in enumerate(table.columns)
        if table.dagger(cells, index)
    }


def average(table, label, key="average"):
    index = [column.key for column in table.columns].index(key)
    return next(cells[index] for cells in table.rows if cells[0] == label)


def test_a_score_has_a_dagger_where_the_base_or_the_training_saw_the_set():
    table = results_table(
        [
            row("bm25", reference="bm25"),
            row("untouched", reference="untouched"),
            row("tuned", train="fiqa"),
        ]
    )
    base = {"nq", "msmarco"}
    assert daggers(table) == {
        *(("untouched", name) for name in base),
        *(("tuned", name) for name in {*base, "fiqa"}),
    }
    (note,) = [note for note in table.notes if "†" in note]
    assert "mteb 2." in note


def test_the_second_average_is_over_sets_that_no_row_saw():
    table = results_table([row("untouched", reference="untouched"), row("tuned", train="fiqa")])
    labels = {column.key: column.label for column in table.columns}
    assert labels["average"] == "Average of 3"  # MS MARCO is in none
    assert labels["average_unseen"] == "Average of 1 unseen"
    assert average(table, "tuned") == pytest.approx(0.5)
    assert average(table, "tuned", "average_unseen") == pytest.approx(0.6)


@pytest.mark.parametrize("scores", [{"scifact": 0.5, "fiqa": 0.4}, {"nq": 0.5, "msmarco": 0.2}])
def test_there_is_one_average_where_all_sets_or_none_were_seen(scores):
    table = results_table([row("untouched", reference="untouched", **scores)])
    assert [column.key for column in table.columns if "average" in column.key] == ["average"]


def test_an_unknown_base_is_said_and_what_its_own_training_saw_is_marked():
    table = results_table([row("tuned", base="someone/else", train="fiqa")])
    assert daggers(table) == {("tuned", "fiqa")}
    assert "unknown what a model or its base was trained on" in table.notes[-1]
    assert table.notes[-1].endswith(": tuned.")


def test_nothing_is_said_where_nothing_was_seen():
    table = results_table([row("tiny", base="ragcun/tiny", train="smoke")])
    assert not any("†" in note for note in table.notes)
    assert not table.daggers


def test_a_sample_and_a_task_of_mteb_are_seen_with_the_set_that_they_are_of():
    scores = {"little": 0.4, "mteb:NQHardNegatives": 0.5, "mteb:NQ/default": 0.5, "scifact": 0.6}
    table = results_table([row("a", samples={"little": "nq"}, **scores)])
    assert {key for _, key in daggers(table)} == {*scores} - {"scifact"}


def test_what_was_not_measured_has_no_dagger():
    rows = [row("a", **{**SCORES, "nq": None}), row("b")]
    assert ("a", "nq") not in daggers(results_table(rows))
    assert ("b", "nq") in daggers(results_table(rows))


def test_a_published_row_has_its_scores_and_an_average_only_of_all_sets():
    scores = {"nq": 0.5, "scifact": 0.6, "bioasq": 0.3}
    table = results_table([row("a", **scores)], ["all-MiniLM-L6-v2", "TAS-B", "TAS-B"])
    mini, tas_b = table.rows[1:]
    assert mini[0] == "sentence-transformers/all-MiniLM-L6-v2 (published)"
    # Trainable, the sets, the averages of 3 and of 2 unseen, the difference, isotropy.
    assert mini[1:] == ("none", 0.43869, 0.64508, "none", "none", "none", "none", "none")
    assert tas_b[:5] == ("TAS-B (published)", "none", 0.463, 0.643, 0.383)
    assert tas_b[5] == pytest.approx((0.463 + 0.643 + 0.383) / 3)
    assert tas_b[6] == pytest.approx((0.643 + 0.383) / 2)
    assert (mini[0], "nq") in daggers(table)
    assert table.notes[-3].startswith("Published rows were not measured here")
    assert "arXiv:2104.08663" in table.notes[-1]
    assert "TAS-B (published)." in next(note for note in table.notes if "unknown" in note)


def test_every_format_shows_the_dagger(capsys):
    table = results_table([row("a"), row("b", **{**SCORES, "nq": 0.25})])
    show_table(table)
    assert "†50.0" in capsys.readouterr().out
    assert "**†50.0**" in render_markdown([table])
    assert "<strong>†50.0</strong>" in render_html([table], title="T", generated_from="plan")
    assert r"$\dagger$\textbf{50.0}" in render_latex([table])
    document = json.loads(render_json([table]))["tables"][0]
    assert ["a", "nq"] in document["daggers"]
    assert document["rows"][0]["nq"] == 0.5
    lines = csv.DictReader(io.StringIO(render_csv([table]), newline=""))
    marked = {(line["row"], line["column"]) for line in lines if line["dagger"] == "1"}
    assert marked == {(label, name) for label in "ab" for name in ("nq", "msmarco")}
