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
