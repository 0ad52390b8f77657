"""The pinned versions, installed and used under each Python that ``pyproject.toml`` names."""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = [
    name.removeprefix("Programming Language :: Python :: ")
    for name in PROJECT["classifiers"]
    if name.startswith("Programming Language :: Python :: 3.")
]


@pytest.fixture
def run(tmp_path):
    """Run a command that knows nothing of this process's packages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def start(*words):
        done = subprocess.run(
            list(map(str, words)), cwd=tmp_path, env=kept, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield start
    shutil.rmtree(tmp_path / "venv", ignore_errors=True)  # a gigabyte


def measured(workspace):
    """File of results -> its numbers, by their names."""
    files = [*workspace.glob("runs/*/*/*/eval/*/metrics.json")]
    files += workspace.glob("runs/*/*/eval/*/metrics.json")
    assert len(files) > 10
    found = {}
    for file in files:
        scores = json.loads(file.read_text("utf-8"))["metrics"]
        found |= {(str(file.relative_to(workspace)), name): scores[name] for name in scores}
    return found


def test_the_oldest_python_that_is_named_is_the_oldest_that_installs():
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert len(PYTHONS) == len(set(PYTHONS)) >= 3


@pytest.mark.system
@pytest.mark.parametrize(
    "version",
    [pytest.param(name, marks=pytest.mark.needs(f"program:python{name}")) for name in PYTHONS],
)
def test_the_smoke_plan_has_the_same_numbers_under_every_python(
    version, run, program, smoke_workspace, tmp_path
):
    run(program(f"python{version}"), "-m", "venv", "venv")
    installed = tmp_path / "venv/bin"
    pins = REPOSITORY / "constraints.txt"
    run(installed / "pip", "install", "--quiet", "-c", pins, REPOSITORY)
    assert run(installed / "python", "--version").startswith(f"Python {version}.")
    for words in (("data", "get"), ("reproduce",)):
        run(installed / "ragcun", *words, "--profile", "smoke", "-w", tmp_path / "here")
    assert measured(tmp_path / "here") == pytest.approx(measured(smoke_workspace), abs=2e-3)
