"""Variables of the environment that stand for options of a session."""

import json
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_the_variables_that_the_options_have(ragcun, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    help_of = "".join(ragcun(*words, "--help").out for words in (["train"], ["data", "get"]))
    of_options = set(re.findall(r"RAGCUN_[A-Z_]+", help_of))
    assert of_options == {
        *("RAGCUN_WORKSPACE", "RAGCUN_DEVICE", "RAGCUN_YES", "RAGCUN_VERIFY", "RAGCUN_VERBOSE"),
        *("RAGCUN_MIRROR", "RAGCUN_CACHE_GB"),
    }
    rows = re.findall(r"^\| (`RAGCUN_.*?) \|", README.read_text(), re.MULTILINE)
    assert set(re.findall(r"RAGCUN_[A-Z_]+", "".join(rows))) == of_options | {"RAGCUN_DATA"}


def test_an_option_that_is_typed_wins(ragcun, smoke_workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("RAGCUN_WORKSPACE", str(smoke_workspace))
    here = json.loads(ragcun("data", "list", "--json").out)
    assert any(row["state"] == "here" for row in here)
    empty = json.loads(ragcun("data", "list", "--json", "-w", tmp_path).out)
    assert not any(row["state"] == "here" for row in empty)


def test_verify_is_on_where_its_variable_says_so(ragcun, monkeypatch, tmp_path):
    lost = tmp_path / "cache/bm25/x/rows.i32"
    lost.parent.mkdir(parents=True)
    lost.write_bytes(b"x")
    for value, said in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("RAGCUN_VERIFY", value)
        outcome = ragcun("report", "-w", tmp_path)
        assert ("the cache is damaged" in outcome.err) is said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAGCUN_YES", "perhaps"),
        ("RAGCUN_VERIFY", "2"),
        ("RAGCUN_VERBOSE", "loud"),
        ("RAGCUN_DEVICE", "abacus"),
        ("RAGCUN_CACHE_GB", "much"),
        ("RAGCUN_WORKSPACE", __file__),
    ],
)
def test_a_value_that_makes_no_sense_names_its_variable(ragcun, tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    outcome = ragcun("train", "--profile", "with_isotropy")
    assert outcome.code == 2
    assert name in outcome.err
    assert "Traceback" not in outcome.err


def test_mirrors_of_the_variable_are_asked_by_every_command(ragcun, tmp_path, monkeypatch):
    monkeypatch.setenv("RAGCUN_MIRROR", f"file://{tmp_path}/one file://{tmp_path}/two")
    words = ("mine", "-p", "with_isotropy", "--set", "data.train=scifact", "--yes")
    outcome = ragcun(*words, "--seed", "1", "-w", tmp_path / "ws")
    assert f"file://{tmp_path}/one/scifact.zip" in outcome.err
    assert f"file://{tmp_path}/two/scifact.zip" in outcome.err
