"""Models that are not whole, or cannot be used as they are: said, never computed with."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Pooling,
    StaticEmbedding,
    Transformer,
)
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
)

from ragcun_cli.pipeline.encoders.find import find_encoder, load_encoder, load_model, load_saved
from ragcun_cli.pipeline.encoders.look import unknown_share
from ragcun_cli.pipeline.mining.rescoring import load_scorer
from ragcun_cli.pipeline.mining.second_models import MiningModels
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.mining_config import MiningConfig
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


INDEX = "model.safetensors.index.json"


def in_shards(folder):
    """Part the weights of a saved transformer into several files, and return their names."""
    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists()
    names = sorted(file.name for file in folder.glob("model-*.safetensors"))
    assert len(names) > 2
    return names


def test_weights_in_several_files_are_the_same_encoder(folder, tiny):
    expected = SentenceTransformer(str(tiny), device="cpu").encode(TEXTS)
    names = in_shards(folder)
    (folder / "pytorch_model.bin").write_bytes(b"beside them, and never read")
    config = EncoderConfig(base=str(folder))
    found = find(folder)
    assert (load_encoder(found, config, device="cpu").encode(TEXTS) == expected).all()
    assert found.weight_bytes == sum((folder / name).stat().st_size for name in names)


def test_digests_of_weights_in_several_files_are_of_all_of_them(folder):
    names = in_shards(folder)
    before = find(folder)
    assert find(folder) == before
    seen = {(before.sha256, before.files)}
    for name in names:
        file = folder / name
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        seen.add((find(folder).sha256, find(folder).files))
    assert (
        len({sha256 for sha256, _ in seen}) == len({files for _, files in seen}) == 1 + len(names)
    )
    pinned = EncoderConfig(base=str(folder), sha256=before.sha256)
    with pytest.raises(EncoderError, match=f"and the profile names {before.sha256}"):
        find_encoder(pinned, Workspace(folder.parent, folder.parent))


def test_one_of_several_files_that_is_not_there_is_named(folder):
    names = in_shards(folder)
    (folder / names[1]).unlink()
    with pytest.raises(EncoderError, match=f"copy lacks {names[1]}, which"):
        find(folder)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"x": "../other/model.safetensors"}}',
        '{"weight_map": {"x": "/model.safetensors"}}',
        '{"weight_map": {"x": 1}}',
    ],
)
def test_a_list_of_files_that_cannot_be_or_leads_elsewhere_is_refused(folder, content):
    in_shards(folder)
    (folder / INDEX).unlink()
    if content is not None:
        (folder / INDEX).write_text(content)
    with pytest.raises(EncoderError, match=rf"{INDEX} names no files of weights beside it"):
        find(folder)


def test_a_cross_encoder_in_several_files_is_found_and_scores(folder, tmp_path):
    config = BertConfig.from_pretrained(folder, num_labels=1)
    whole, crossed = tmp_path / "whole", tmp_path / "crossed"
    for place, size in ((whole, "5GB"), (crossed, "20KB")):
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
        model.save_pretrained(place, max_shard_size=size)
        shutil.copy(folder / "tokenizer.json", place)
        shutil.copy(folder / "tokenizer_config.json", place)
    keys = {"rescore": "cross-encoder", "rescore_model": str(crossed)}
    models = MiningModels(Workspace(tmp_path, tmp_path))
    found = models.find(MiningConfig(**keys))["rescore_model"]
    shards = list(crossed.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert found.weight_bytes == sum(file.stat().st_size for file in shards)
    scored = [
        load_scorer(place, MiningConfig(**keys), device="cpu").scores("edges", TEXTS)
        for place in (crossed, whole)
    ]
    # Weights that lie elsewhere in memory may be added up by another kernel.
    np.testing.assert_allclose(scored[0], scored[1], rtol=1e-5)
    shards[0].unlink()
    with pytest.raises(EncoderError, match=f"crossed lacks {shards[0].name}"):
        MiningModels(Workspace(tmp_path, tmp_path)).find(MiningConfig(**keys))


@pytest.mark.parametrize("whole", [False, True])
def test_an_adapter_is_told_as_one(folder, whole):
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "some/base"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    if not whole:
        (folder / "modules.json").unlink()
    with pytest.raises(EncoderError, match="copy is an adapter to the weights of some/base") as no:
        find(folder)
    assert "merge_and_unload" in no.value.hint
    with pytest.raises(EncoderError, match="copy is an adapter to the weights of some/base"):
        MiningModels(Workspace(folder.parent, folder.parent)).find(
            MiningConfig(rescore="cross-encoder", rescore_model=str(folder))
        )


def saved(tiny, folder, model, *, padding="right", pooling="mean"):
    """A sentence-transformer of a transformer with random weights, and the tiny encoder's words."""
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder / "plain")
    model.save_pretrained(folder / "plain")
    transformer = Transformer(str(folder / "plain"), max_seq_length=64)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "saved"))
    pad_on(padding, folder / "saved")
    return folder / "saved"


def pad_on(side, folder):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": side}))


def transformer(kind, **more):
    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32}
    if kind is not GPT2Config:
        size["intermediate_size"] = 64
    config = kind(vocab_size=300, max_position_embeddings=66, **size, pad_token_id=0, **more)
    return AutoModel.from_config(config)


@pytest.mark.parametrize("kind", [BertConfig, GPT2Config])
def test_positions_that_are_counted_from_padding_are_refused(tiny, tmp_path, kind):
    folder = saved(tiny, tmp_path, transformer(kind), padding="left")
    plain = SentenceTransformer(str(folder), device="cpu")
    alone, beside = plain.encode(TEXTS[:1])[0], plain.encode(TEXTS)[0]
    assert abs(alone - beside).max() > 0.001
    message = r"saved gives a text another embedding beside a longer .* pads on the left, and it"
    with pytest.raises(EncoderError, match=message) as caught:
        load_model(folder, device="cpu")
    assert caught.value.hint == '"padding_side": "right" in its tokenizer_config.json'
    pad_on("right", folder)
    load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("kind", "padding", "pooling"),
    [
        (RobertaConfig, "left", "mean"),
        (LlamaConfig, "left", "lasttoken"),
        (LlamaConfig, "right", "lasttoken"),
        (GPT2Config, "right", "mean"),
        (BertConfig, "right", "cls"),
    ],
)
def test_positions_from_the_text_itself_or_between_tokens_are_let_pass(
    tiny, tmp_path, kind, padding, pooling
):
    folder = saved(tiny, tmp_path, transformer(kind), padding=padding, pooling=pooling)
    load_model(folder, device="cpu")


def test_a_cross_encoder_whose_score_depends_on_the_batch_is_refused(tiny, tmp_path):
    for padding in ("right", "left"):
        folder = tmp_path / padding
        AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
        pad_on(padding, folder)
        torch.manual_seed(0)
        config = BertConfig.from_pretrained(tiny, num_labels=1, initializer_range=0.5)
        BertForSequenceClassification(config).save_pretrained(folder)
    config = MiningConfig(rescore="cross-encoder", rescore_model="named elsewhere")
    load_scorer(tmp_path / "right", config, device="cpu")
    with pytest.raises(EncoderError, match="left gives a text another embedding beside a longer"):
        load_scorer(tmp_path / "left", config, device="cpu")


def test_a_model_that_gives_all_texts_one_embedding_is_refused(folder):
    change_weights(folder, str)
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = "encoder.layer.1.output.LayerNorm.weight"
    save_file(weights | {name: weights[name] * 0}, file, metadata={"format": "pt"})
    save = SentenceTransformer(str(folder), device="cpu")
    save[0].auto_model.encoder.layer[1].output.LayerNorm.bias.data.fill_(1)
    save.save(str(folder))
    with pytest.raises(EncoderError, match=r"copy gives all texts one embedding$"):
        load_model(folder, device="cpu")


def test_embeddings_that_lie_close_together_are_let_pass(folder):
    """Cosines of 0.999999, as of a model that is very anisotropic, and no rounding."""
    model = SentenceTransformer(str(folder), device="cpu")
    with torch.no_grad():
        norm = model[0].auto_model.encoder.layer[1].output.LayerNorm
        norm.weight.mul_(0.001)
        norm.bias.fill_(1)
    model.save(str(folder))
    texts = load_model(folder, device="cpu").encode(TEXTS, convert_to_tensor=True)
    assert 1e-8 < (1 - texts[0] @ texts[1]) < 1e-5


def static(words, folder):
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.normalizer = Lowercase()
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")
    model.save(str(folder))
    return folder


def test_a_tokenizer_that_knows_none_of_its_words_is_told(tmp_path):
    load_model(static(["[UNK]", "sort", "rows"], tmp_path / "few"), device="cpu")
    message = "gives all texts one embedding: its tokenizer does not know the words of its own"
    with pytest.raises(EncoderError, match=message):
        load_model(static(["[UNK]", "SORT", "ROWS"], tmp_path / "cased"), device="cpu")


def test_the_share_of_unknown_tokens_is_counted(tiny, tmp_path):
    words = static(["[UNK]", "sort", "rows"], tmp_path / "words")
    tokenizer = SentenceTransformer(str(words), device="cpu").tokenizer
    assert unknown_share(tokenizer, ["Sort rows", "sort columns now"]) == 2 / 5
    assert unknown_share(tokenizer, ["", " "]) == 1
    pieces = AutoTokenizer.from_pretrained(tiny)
    assert unknown_share(pieces, ["ab, \u03b1\u03b2 \u03b3 12?"]) == 2 / 4  # beside a and ##b
    pieces(["a", "b c"], padding="max_length", truncation=True, max_length=4)
    assert unknown_share(pieces, ["\u03b1 a a a a a a a a"]) == 1 / 9
    everything = Tokenizer(BPE({"a": 0, "b": 1}, []))
    assert unknown_share(everything, ["abba"]) == 0


@pytest.mark.parametrize(
    "config", ["{}", "[]", "{", '{"pooling_mode": 1, "embedding_dimension": 2}']
)
def test_whatever_loading_raises_is_one_message_that_names_the_folder(folder, config):
    (folder / "1_Pooling" / "config.json").write_text(config)
    with pytest.raises(EncoderError, match="copy cannot be loaded as an encoder: ") as caught:
        load_model(folder, device="cpu")
    assert caught.value.exit_code == 2


def test_a_module_that_ragcun_may_not_load_is_one_message(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "no.such.Module"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match="copy cannot be loaded as an encoder: "):
        load_model(folder, device="cpu")
