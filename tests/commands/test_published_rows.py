"""`ragcun report --published`."""

import json


def test_a_published_row_stands_below_those_that_were_measured(ragcun, smoke_workspace):
    words = ("report", "--profile", "smoke", "-w", smoke_workspace, "--published", "TAS-B")
    found = ragcun(*words, "--published", "all-MiniLM-L6-v2", "--json")
    assert found.code == 0, found.err
    tables = json.loads(found.out)["tables"]
    (results,) = [table for table in tables if table["key"] == "results"]
    labels = [row["model"] for row in results["rows"]]
    assert labels[-2:] == [
        "TAS-B (published)",
        "sentence-transformers/all-MiniLM-L6-v2 (published)",
    ]
    assert results["rows"][-1]["smoke-numpy"] == "none"
    assert results["daggers"] == []


def test_an_unknown_name_is_answered_with_those_that_are_near(ragcun, smoke_workspace):
    found = ragcun("report", "-w", smoke_workspace, "--published", "BM25")
    assert found.code == 2
    assert "BM25 (BEIR paper)" in found.err
    assert "ragcun report --published '" in found.err
