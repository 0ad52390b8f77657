"""`ragcun report --paper`, `--columns` and `--transpose`, on a finished workspace."""

import json
import re


def test_a_paper_has_the_numbers_of_the_report_and_the_facts_of_the_manifests(
    ragcun, smoke_workspace, tmp_path
):
    folder = tmp_path / "paper"
    words = ("report", "-w", smoke_workspace, "--profile", "smoke")
    refused = ragcun(*words, "--paper", folder, "--format", "html")
    assert (refused.code, folder.exists()) == (2, False)
    outcome = ragcun(*words, "--paper", folder)
    assert outcome.code == 0, outcome.err
    assert f"written: {folder / 'numbers.tex'}" in outcome.err.replace("\n", "")
    text = (folder / "numbers.tex").read_text("utf-8")
    macros = dict(re.findall(r"\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}% ", text))
    tables = json.loads(ragcun(*words, "--json").out)["tables"]
    (results,) = (table for table in tables if table["key"] == "results")
    (row,) = (row for row in results["rows"] if row["model"] == "with_isotropy")
    mean = row["average"]["mean"] if isinstance(row["average"], dict) else row["average"]
    assert macros["resultsWithIsotropyAverage"] == f"{100 * mean:.1f}"
    floats = (folder / "results.tex").read_text("utf-8")
    drawn = re.findall(r"\{(figures/[^}]*)\}", floats)
    assert len(drawn) > 5
    assert all((folder / name).exists() for name in drawn)
    assert "tab:isotropy" in (folder / "appendix.tex").read_text("utf-8")
    checklist = (folder / "checklist.md").read_text("utf-8")
    assert "`ragcun reproduce --profile smoke`" in checklist
    assert re.search(r"with_isotropy: 1, 2[;.]", checklist)
    assert re.search(r"for how long.*\? .+: \d+\.\d\d hours", checklist)
    assert "torch: " in checklist


def test_the_columns_of_the_main_table_are_chosen(ragcun, smoke_workspace):
    words = ("report", "-w", smoke_workspace, "--profile", "smoke", "--json")
    chosen = ragcun(*words, "--columns", "average,Trainable,device").out
    (results,) = (t for t in json.loads(chosen)["tables"] if t["key"] == "results")
    assert [column["key"] for column in results["columns"]] == [
        *("model", "average", "trainable_parameters", "device"),
    ]
    refused = ragcun(*words, "--columns", "nobody")
    assert refused.code == 2
    assert "has a column 'nobody'" in refused.err


def test_data_sets_are_rows_in_latex_where_that_is_asked_for(ragcun, smoke_workspace):
    words = ("report", "-w", smoke_workspace, "--profile", "smoke", "--format", "latex")
    assert "tab:results-by-set" in ragcun(*words, "--transpose").out
    assert "tab:results-by-set" not in ragcun(*words, "--no-transpose").out
