import pytest
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.model import build_encoder, without_dropout
from ragcun_cli.pipeline.serving.texts import check_texts


def _with_head(base, **prompts):
    """A new copy of a base behind a head of 48 dimensions, as it is saved."""
    texts = check_texts(base)
    start = base.encode(texts, convert_to_tensor=True)
    base.prompts = {"query": "", "document": ""} | prompts
    model = build_encoder(
        base,
        output_dim=48,
        dropout=0.1,
        similarity="euclidean",
        linear_start=start,
        rotation_seed=0,
    )
    return without_dropout(model.eval())


@pytest.fixture(scope="package")
def folder_of_headed(tmp_path_factory):
    """Folder of a model with a head."""
    from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder

    root = tmp_path_factory.mktemp("headed")
    build_tiny_encoder(root / "tiny")
    _with_head(SentenceTransformer(str(root / "tiny"), device="cpu")).save(str(root / "headed"))
    return root / "headed"


@pytest.fixture
def headed(folder_of_headed):
    """A model with a head, no Dropout, 64 tokens long."""
    return SentenceTransformer(str(folder_of_headed), device="cpu")


@pytest.fixture
def prompted(folder_of_headed):
    """One with prompts of both sides."""
    model = SentenceTransformer(str(folder_of_headed), device="cpu")
    model.prompts = {"query": "ask it: ", "document": "read: "}
    return model


@pytest.fixture
def with_head():
    """Call it for a base behind a head."""
    return _with_head
