import json
import shutil

import pytest


@pytest.fixture
def workspace(smoke_workspace, tmp_path):
    """A copy of the reproduced workspace, to change."""
    return shutil.copytree(smoke_workspace, tmp_path / "ws")


@pytest.fixture
def model(smoke_workspace, tmp_path):
    """A copy of a trained model, to change."""
    source = next(smoke_workspace.glob("runs/with_isotropy/*/seed-1/model"))
    return shutil.copytree(source, tmp_path / "model")


@pytest.fixture
def results_of_models(workspace):
    """Call it for the files of results of all models that were evaluated by name."""

    def found():
        runs = [
            file.parent
            for file in workspace.glob("runs/untouched/*/run.json")
            if json.loads(file.read_text())["profile"]["name"] == "model"
        ]
        return [file for run in runs for file in (run / "eval").rglob("*") if file.is_file()]

    return found
