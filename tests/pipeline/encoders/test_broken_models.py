"""Models that are not whole, or cannot be used as they are: said, never computed with."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from ragcun_cli.pipeline.encoders.find import find_encoder, load_encoder, load_model, load_saved
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig

TEXTS = ["a", "sort the rows of a matrix", "nodes and edges"]


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of the tiny encoder, to change."""
    return shutil.copytree(tiny, tmp_path / "copy")


def find(folder):
    return find_encoder(EncoderConfig(base=str(folder)), Workspace(folder.parent, folder.parent))


def change_weights(folder, change):
    """Keys of the weights -> keys that they get; those without one are left out."""
    file = folder / "model.safetensors"
    weights = {change(key): values for key, values in load_file(file).items() if change(key)}
    save_file(weights, file, metadata={"format": "pt"})


def without(part):
    return lambda key: None if part in key else key


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("layer.1."), "encoder.layer.1.attention.output.LayerNorm.bias, .* and 12 more"),
        (without("word_embeddings"), "embeddings.word_embeddings.weight"),
        (without("layer.0.output.dense.weight"), "encoder.layer.0.output.dense.weight"),
        (lambda key: f"backbone.{key}", "embeddings.LayerNorm.bias"),
    ],
)
def test_weights_that_are_not_there_are_named(folder, change, named):
    change_weights(folder, change)
    config = EncoderConfig(base=str(folder))
    for load in (
        lambda: load_model(folder, device="cpu"),
        lambda: load_encoder(find(folder), config, device="cpu"),
    ):
        with pytest.raises(EncoderError, match=rf"copy lacks weights .* random: {named}") as caught:
            load()
        assert caught.value.exit_code == 2


def test_weights_of_another_shape_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50}))
    with pytest.raises(EncoderError, match=r"copy lacks .*: embeddings\.word_embeddings\.weight"):
        load_model(folder, device="cpu")


def renamed(key):
    return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


@pytest.mark.parametrize("change", [without("pooler"), renamed, lambda key: f"bert.{key}"])
def test_what_is_unused_or_only_named_otherwise_is_no_weight_that_is_not_there(
    folder, tiny, change
):
    expected = SentenceTransformer(str(tiny), device="cpu").encode(TEXTS)
    before = (folder / "model.safetensors").read_bytes()
    change_weights(folder, change)
    assert (folder / "model.safetensors").read_bytes() != before
    assert (load_model(folder, device="cpu").encode(TEXTS) == expected).all()


def test_a_language_model_with_tied_weights_is_whole(folder):
    torch.manual_seed(0)
    language_model = BertForMaskedLM(BertConfig.from_pretrained(folder))
    language_model.save_pretrained(folder)
    keys = load_file(folder / "model.safetensors").keys()
    assert all(key.startswith(("bert.", "cls.")) for key in keys)
    model = load_model(folder, device="cpu")
    embeddings = model[0].auto_model.embeddings.word_embeddings.weight
    assert torch.equal(embeddings, language_model.bert.embeddings.word_embeddings.weight)


@pytest.mark.parametrize("part", ["classifier", "pooler", "layer.0.output"])
def test_a_cross_encoder_needs_its_pooler_too(folder, tmp_path, part):
    config = BertConfig.from_pretrained(folder, num_labels=1)
    BertForSequenceClassification(config).save_pretrained(folder)
    CrossEncoder(str(folder), device="cpu").save(str(tmp_path / "crossed"))

    def load():
        return load_saved(CrossEncoder, tmp_path / "crossed", device="cpu", what="a cross-encoder")

    load()
    change_weights(tmp_path / "crossed", without(part))
    with pytest.raises(EncoderError, match=f"crossed lacks weights .*{part}"):
        load()


@pytest.mark.parametrize("spoil", [shutil.rmtree, lambda place: (place / "config.json").unlink()])
def test_a_folder_of_a_module_that_is_not_there_is_named(folder, spoil):
    find(folder)
    spoil(folder / "1_Pooling")
    with pytest.raises(EncoderError, match="copy lacks 1_Pooling, which") as caught:
        find(folder)
    assert caught.value.exit_code == 2


def test_normalize_needs_no_folder(folder, tiny):
    """Repositories hold no empty ones: all-MiniLM-L6-v2 has been published without it."""
    expected = SentenceTransformer(str(tiny), device="cpu").encode(TEXTS)
    shutil.rmtree(folder / "2_Normalize")
    find(folder)
    assert (load_model(folder, device="cpu").encode(TEXTS) == expected).all()
