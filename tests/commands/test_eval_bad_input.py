"""Ten kinds of bad input to an evaluation: one error, and nothing that looks like a result."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel


@pytest.fixture
def fails(ragcun, workspace, model, results_of_models):
    """What an evaluation says that fails, after which no result of the model is kept."""

    def run(*words, said, code=2, dataset="smoke-numpy"):
        outcome = ragcun("eval", "--model", model, "--datasets", dataset, "-w", workspace, *words)
        assert outcome.code == code, outcome.err
        assert said in outcome.err
        assert outcome.err.count("Error:") == 1
        assert "Traceback" not in outcome.err
        assert results_of_models() == []
        return outcome

    return run


def folder(tmp_path, passages, queries=("a",)):
    source = tmp_path / "source"
    (source / "qrels").mkdir(parents=True)
    rows = [{"_id": name, "title": "", "text": f"x{at}"} for at, name in enumerate(passages)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (source / "corpus.jsonl").write_text("".join(lines))
    lines = [json.dumps({"_id": name, "text": "x"}) + "\n" for name in queries]
    (source / "queries.jsonl").write_text("".join(lines))
    (source / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\na\tp\t1\n")
    return source


def changed(model, change):
    for file in model.glob("**/model.safetensors"):
        save_file({name: change(value) for name, value in load_file(file).items()}, file)


def test_a_missing_set(fails):
    outcome = fails(said="no data set 'elsewhere'", dataset="elsewhere")
    assert "ragcun data import" in outcome.err


def test_an_empty_corpus(ragcun, workspace, tmp_path):
    words = ("data", "import", folder(tmp_path, []), "--name", "empty", "-w", workspace)
    outcome = ragcun(*words)
    assert outcome.code == 2
    assert "the corpus is empty" in outcome.err
    assert not (workspace / "data/datasets/empty").exists()


def test_duplicate_ids(ragcun, workspace, tmp_path):
    words = (
        "data",
        "import",
        folder(tmp_path, ["p", "q", "p"]),
        "--name",
        "twice",
        "-w",
        workspace,
    )
    outcome = ragcun(*words)
    assert outcome.code == 2
    assert "'p'" in outcome.err
    assert not (workspace / "data/datasets/twice").exists()


def test_a_model_of_nan(fails, model):
    changed(model, lambda value: value * float("nan"))
    fails(said="not finite")


def test_a_model_of_zeros(fails, model):
    changed(model, lambda value: value * 0)
    fails(said="gives all texts one embedding")


def test_texts_of_unknown_words_under_cosine(fails, model):
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "qua": 1, "quux": 2}, "[UNK]"))
    weights = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    shutil.rmtree(model)
    static = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[static], device="cpu").save(str(model))
    fails("--set", "evaluation.similarity=cosine", said="length 0")


def test_a_module_of_the_wrong_dimension(fails, model):
    (file,) = [
        f
        for f in model.glob("*_Dense/config.json")
        if json.loads(f.read_text())["out_features"] == 16
    ]
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"out_features": 12}))
    fails(said="cannot be loaded")


def test_more_dimensions_than_there_are(fails):
    fails("--set", 'evaluation.variants=["truncate-17"]', said="at most truncate-16")


def test_a_corrupt_cache(fails, ragcun, workspace, model):
    words = ("--keep-embeddings", "--datasets", "smoke-sklearn", "--model", model)
    assert ragcun("eval", *words, "-w", workspace).code == 0
    block = next(workspace.glob("cache/embeddings/*/*.npy"))
    block.write_bytes(block.read_bytes()[:-5])
    outcome = ragcun("eval", *words, "--force", "-w", workspace)
    assert outcome.code == 2
    assert "cache is damaged" in outcome.err
    assert f"rm -r {block.parent}" in outcome.err


def test_a_full_disk(fails, ragcun, workspace, model, full_disk, results_of_models):
    with full_disk(40_000):
        fails(said="could not read or write", code=1)
    words = ("--model", model, "--datasets", "smoke-numpy", "-w", workspace)
    assert ragcun("eval", *words).code == 0
    names = {file.name for file in results_of_models()}
    assert names == {"smoke-numpy.trec.gz", "per_query.jsonl", "scores.npz", "metrics.json"}


def test_an_interrupted_shard(fails, ragcun, workspace, model, full_disk, results_of_models):
    with full_disk(20_000):
        fails("--shard", "1/2", said="shard 1/2' could not read or write", code=1)
    fails("--merge", said="no shard")
    words = ("--model", model, "--datasets", "smoke-numpy", "-w", workspace)
    assert ragcun("eval", "--shard", "2/2", *words).code == 0
    fails("--merge", said="shard 1/2' is not finished")
    assert ragcun("eval", "--shard", "1/2", *words).code == 0
    assert ragcun("eval", "--merge", *words).code == 0
    assert results_of_models() != []


def test_mixed_shards_of_two_models(fails, ragcun, workspace, model):
    words = ("--model", model, "--datasets", "smoke-numpy", "-w", workspace)
    assert ragcun("eval", "--shard", "1/2", *words).code == 0
    changed(model, lambda value: value * 1.01)
    assert ragcun("eval", "--shard", "2/2", *words).code == 0
    fails("--merge", said="is of another model")


def test_an_unknown_similarity(fails):
    fails("--set", "evaluation.similarity=manhattan", said="evaluation.similarity")
