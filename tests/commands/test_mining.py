"""Mining and its figures, through the command line."""

import json

SIDES = ("queries", "passages")
FIGURES = {
    *("mining-scores", "mining-ranks", "reliability", "forest", "isotropy-ndcg"),
    *("loss-contrastive", "loss-isotropy", "loss-variance"),
    *(f"{kind}-{side}" for kind in ("spectrum", "isotropy-by-n", "cosines") for side in SIDES),
}


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
    assert "figures/ beside it gets: forest.svg, " in shown.err
    assert ", mining-scores.svg, mining-ranks.svg" in shown.err
    assert "figures" not in ragcun(*words, "-f", "csv").err


def test_the_reports_of_a_plan_have_their_figures_in_both_kinds(smoke_workspace):
    folder = smoke_workspace / "reports/smoke"
    names = {file.name for file in (folder / "figures").iterdir()}
    assert names == {f"{key}.{kind}" for key in FIGURES for kind in ("pdf", "svg")}
    assert (folder / "report.html").read_text().count("<svg") == len(FIGURES)
