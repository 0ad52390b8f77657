"""Seeded odd input through the command line, in this process: one message each, no traceback.

As many as take part of a minute, and in the system tests thousands.
"""

import json
import os
import random
import shutil

import odd_input
import pytest

FORBIDDEN = ("Traceback", "Input should", "Value error", "Field required", "\x1b", "\x00", "\u202e")
"""What nobody should see: bugs, words of pydantic, what a terminal obeys."""


def many(few, all_of_them):
    """Run a test with few inputs, and with all among the system tests."""
    slow = pytest.param(all_of_them, marks=pytest.mark.system)
    return pytest.mark.parametrize("count", [few, slow])


@pytest.fixture
def refused_or_done(ragcun):
    """Run a command: exit 0, or one error and an exit code for it; an exception is a failure."""

    def run(*words):
        outcome = ragcun(*words)
        said = [line for line in outcome.err.splitlines() if line.startswith("Error: ")]
        usage = "Usage: " in outcome.err
        assert outcome.code in (0, 1, 2), (words, outcome)
        assert len(said) == (outcome.code != 0 and not usage), (words, outcome)
        found = [text for text in FORBIDDEN if text in outcome.err]
        assert not found, (words, found, outcome.err[:2000])
        return outcome

    return run


def value_of(shown, key):
    for part in key.split("."):
        shown = shown[part]
    return shown


def is_what_was_asked(shown, asked):
    return shown == asked or (shown is None and asked == "none")


@many(90, 2000)
def test_odd_values_of_set(refused_or_done, smoke_workspace, count):
    rng, taken = random.Random(count), 0
    for number in range(count):
        asked = [odd_input.odd_set(rng) for _ in range(rng.choice([1, 1, 2]))]
        sets = [word for text, *_ in asked for word in ("--set", text)]
        if number % 4 == 0:
            refused_or_done(
                *("reproduce", "--profile", "smoke", "--dry-run", "-w", smoke_workspace, *sets)
            )
            continue
        outcome = refused_or_done("profile", "show", "with_isotropy", "--json", *sets)
        if outcome.code:
            continue
        taken += 1
        shown, last = json.loads(outcome.out), {key: value for _, key, value in asked}
        for key, value in last.items():
            if value is not None:
                assert is_what_was_asked(value_of(shown, key), value), (asked, key)
    assert taken > count // 20


@many(40, 1000)
def test_odd_profiles(refused_or_done, smoke_workspace, tmp_path, monkeypatch, count):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    rng, taken = random.Random(count), 0
    for number in range(count):
        (tmp_path / "profiles/odd.toml").write_bytes(odd_input.odd_profile(rng, "odd"))
        words = ["profile", "show", "odd", "--json"]
        if number % 3 == 0:
            words = ["reproduce", "--profile", "odd", "--dry-run", "-w", smoke_workspace]
        taken += refused_or_done(*words).code == 0
        if number % 10 == 0:
            assert refused_or_done("profile", "list").code == 0
            refused_or_done("train", "--profile", "with_isotropi")
    assert taken > count // 20


@many(20, 400)
def test_odd_environments(refused_or_done, smoke_workspace, tmp_path, monkeypatch, count):
    every = odd_input.odd_environments(tmp_path)
    chosen = random.Random(count).sample(every, min(count, len(every)))
    monkeypatch.chdir(tmp_path)
    for variables, words in chosen:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            outcome = refused_or_done(*words)
            if "WORLD_SIZE" in variables:
                assert outcome.code == 2, (variables, words)


@many(6, 110)
def test_odd_model_folders(refused_or_done, smoke_workspace, tmp_path, count):
    model = next(smoke_workspace.glob("runs/with_isotropy/*/seed-1/model"))
    workspace = shutil.copytree(
        smoke_workspace, tmp_path / "ws", ignore=shutil.ignore_patterns("runs", "reports")
    )
    rng, taken = random.Random(count), 0
    for number in range(count):
        folder = odd_input.copied(model, tmp_path / "model")
        odd_input.spoil(folder, rng)
        if number % 2:
            words = ["eval", "--model", folder, "--query", "what is this", "-d", "smoke-numpy"]
        else:
            kind = rng.choice(["dense", "cross-encoder"])
            words = ["mine", "--profile", "smoke", "--experiment", "with_isotropy", "--seed", "1"]
            words += ["--set", f"mining.rescore={kind}", "--set", f"mining.rescore_model={folder}"]
            words += ["--set", "mining.rescore_margin=0"]
        taken += refused_or_done(*words, "-w", workspace).code == 0
        assert not (tmp_path / "ran").exists()
    assert (count > 100) <= taken < count


def test_a_working_directory_that_is_gone(refused_or_done, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["data", "list"], ["profile", "list"], ["report"], ["--version"]):
        assert refused_or_done(*words).code == 2
    os.chdir(tmp_path)


def test_profiles_that_is_a_file(refused_or_done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").write_text("x")
    assert refused_or_done("profile", "list").code == 0
    assert refused_or_done("profile", "init", "mine").code == 2
    (tmp_path / "profiles").unlink()
    (tmp_path / "profiles/odd.toml").mkdir(parents=True)
    assert "broken" in refused_or_done("profile", "list").out
