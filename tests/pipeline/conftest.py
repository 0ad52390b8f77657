import pytest
from sentence_transformers import SentenceTransformer

from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder of the tiny encoder."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    build_tiny_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def model(tiny):
    """The tiny encoder."""
    return SentenceTransformer(str(tiny), device="cpu")
