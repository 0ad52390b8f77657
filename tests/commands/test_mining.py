"""Mining and its figures, through the command line."""

import json
import shutil

import pytest


@pytest.fixture
def workspace(smoke_workspace, tmp_path):
    """A copy of the reproduced workspace, to change."""
    return shutil.copytree(smoke_workspace, tmp_path / "copy")


def pending(ragcun, root):
    outcome = ragcun("reproduce", "--profile", "smoke", "-w", root, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    return [s["what"] for s in json.loads(outcome.out)["stages"] if s["state"] == "will run"]


def make_older(folder):
    """What a mining was before there were rows for dev and numbers for figures."""
    summary = json.loads((folder / "summary.json").read_text())
    for key in ("dev", "depth", "would_drop", "positive_within", "score_histogram"):
        del summary[key]
    (folder / "summary.json").write_text(json.dumps(summary))
    for name in ("dev_negatives.jsonl", "dev_details.jsonl"):
        (folder / name).unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    record = manifest["stages"]["mine"]
    kept = ("negatives.jsonl", "details.jsonl")
    record["outputs"] = [file for file in record["outputs"] if file["path"] in kept]
    (folder / "manifest.json").write_text(json.dumps(manifest))


SIDES = ("queries", "passages")
FIGURES = {
    *("mining-scores", "mining-ranks", "reliability"),
    *(f"{kind}-{side}" for kind in ("spectrum", "isotropy-by-n", "cosines") for side in SIDES),
}


def test_a_mining_made_before_dev_was_stays_current_and_can_be_made_again(ragcun, workspace):
    folders = sorted(file.parent for file in workspace.rglob("negatives.jsonl"))
    assert len(folders) == 2
    whole = [(folder / "dev_negatives.jsonl").read_bytes() for folder in folders]
    for folder in folders:
        make_older(folder)
    assert pending(ragcun, workspace) == []
    shown = ragcun("mine", "--profile", "smoke", "-w", workspace)
    assert "nothing to do" in shown.err
    assert "mined before dev was; mine it again with --force" in shown.out
    report = ragcun("report", "--profile", "smoke", "-w", workspace, "-f", "json")
    drawn = [figure["key"] for figure in json.loads(report.out)["figures"]]
    assert drawn
    assert not [key for key in drawn if key.startswith("mining")]
    again = ragcun("mine", "--profile", "smoke", "-w", workspace, "--force")
    assert again.code == 0, again.err
    assert [(folder / "dev_negatives.jsonl").read_bytes() for folder in folders] == whole
    assert whole[0].count(b"\n") == 32
    assert pending(ragcun, workspace) == []


def test_the_closing_table_and_json_count_training_and_dev_apart(ragcun, smoke_workspace):
    words = ("mine", "--profile", "smoke", "--seed", "1", "-w", smoke_workspace)
    table, found = ragcun(*words).out, json.loads(ragcun(*words, "--json").out)
    (summary,) = found.values()
    assert (summary["queries"], summary["dev"]["queries"]) == (128, 32)
    assert "score ratio 0.95 (off)" in table
    assert "dev: hard negatives" in table


def test_a_report_in_a_file_has_its_figures_beside_it(ragcun, smoke_workspace, tmp_path):
    words = ("report", "--profile", "smoke", "-w", smoke_workspace)
    written = ragcun(*words, "-f", "latex", "-o", tmp_path / "results.tex")
    assert written.code == 0, written.err
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert figures == {f"{key}.pdf" for key in FIGURES}
    text = (tmp_path / "results.tex").read_text()
    assert all(f"{{figures/{name}}}" in text for name in figures)
    assert str(tmp_path / "figures/mining-scores.pdf") in written.err
    whole = ragcun(*words, "-f", "html", "-o", tmp_path / "page/results.html")
    assert whole.code == 2
    (tmp_path / "page").mkdir()
    assert ragcun(*words, "-f", "html", "-o", tmp_path / "page/results.html").code == 0
    assert [file.name for file in (tmp_path / "page").iterdir()] == ["results.html"]


def test_a_report_on_stdout_says_where_its_figures_would_go(ragcun, smoke_workspace):
    words = ("report", "--profile", "smoke", "-w", smoke_workspace)
    shown = ragcun(*words, "-f", "markdown")
    assert "(figures/mining-scores.svg)" in shown.out
    assert "figures/ beside it gets: mining-scores.svg, mining-ranks.svg" in shown.err
    assert "figures" not in ragcun(*words, "-f", "csv").err


def test_the_reports_of_a_plan_have_their_figures_in_both_kinds(smoke_workspace):
    folder = smoke_workspace / "reports/smoke"
    names = {file.name for file in (folder / "figures").iterdir()}
    assert names == {f"{key}.{kind}" for key in FIGURES for kind in ("pdf", "svg")}
    assert (folder / "report.html").read_text().count("<svg") == len(FIGURES)
