"""What a review that set out to break evaluation found."""

import json
import shutil

import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast


@pytest.fixture
def evaluate(ragcun, workspace):
    def run(*words, code=0):
        outcome = ragcun("eval", "--datasets", "smoke-numpy", "-w", workspace, *words)
        assert outcome.code == code, outcome.err
        return outcome

    return run


def results(ragcun, workspace):
    outcome = ragcun("report", "--all-runs", "-w", workspace, "--json")
    assert outcome.code == 0, outcome.err
    return [t for t in json.loads(outcome.out)["tables"] if t["key"].startswith("results")]


def test_an_evaluation_by_another_similarity_moves_no_table(ragcun, workspace, evaluate):
    before = results(ragcun, workspace)
    evaluate("-p", "smoke", "--seed", "1", "--set", "evaluation.similarity=cosine")
    assert next(workspace.glob("runs/with_isotropy/*/seed-1/eval/smoke-numpy@cosine"))
    assert results(ragcun, workspace) == before


def test_a_changed_tokenizer_configuration_is_another_model(evaluate, workspace, model):
    words = ("--model", model, "--keep-embeddings", "--json")
    first = json.loads(evaluate(*words).out)
    file = next(model.glob("**/tokenizer_config.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 6}))
    second = json.loads(evaluate(*words).out)
    assert first != second
    assert len(list(workspace.glob("cache/embeddings/*"))) == 2


def test_a_saved_cross_encoder_is_no_model_to_search_with(evaluate, model, tmp_path):
    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "plain")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "plain")
    CrossEncoder(str(tmp_path / "plain"), device="cpu").save(str(tmp_path / "cross"))
    assert "CrossEncoder" in evaluate("--model", tmp_path / "cross", code=2).err


@pytest.mark.parametrize("key", ["encoder.base=other", "encoder.output_dim=8", "training.epochs=2"])
def test_what_does_nothing_to_a_named_model_is_refused(evaluate, model, key):
    assert "does nothing" in evaluate("--model", model, "--set", key, code=2).err


def test_named_models_stand_in_one_table_by_the_names_that_were_typed(
    ragcun, evaluate, workspace, model, tmp_path
):
    shutil.rmtree(workspace / "runs")
    other = shutil.copytree(model, tmp_path / "other")
    evaluate("--model", model, "--model", other, "--model", other)
    (table,) = results(ragcun, workspace)
    assert sorted(row["model"] for row in table["rows"]) == sorted(map(str, (model, other)))
    assert all(row["smoke-numpy"] for row in table["rows"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--query", "x", "--shard", "1/2"), "no part in it"),
        (("--query", "x", "--merge"), "no part in it"),
        (("--query", "x", "--force"), "only looks at hits"),
        (("--query", "x", "--disagreements", "3"), "only looks at hits"),
        (("--query", "x", "-o", "page.pdf"), "is to be a web page"),
        (("--query", "x", "-o", "/dev/null/page.html"), "cannot be written"),
        (("--disagreements", "3"), "of two models are looked at, each named once, and here is 1"),
        (("--disagreements", "0"), "it has to be 1 or more"),
        (("--disagreements", "3", "--baseline-check"), "ask two things"),
        (("--disagreements", "3", "--shard", "1/2"), "no part in it"),
        (("--output", "page.html"), "is the page of --query or of --disagreements"),
        (("--query", " "), "query is empty"),
        (("--seed", "5"), "choose rows of a profile"),
        (("--datasets", "all"), "stands alone"),
    ],
)
def test_options_that_do_not_go_together_are_refused(evaluate, model, words, said):
    outcome = evaluate("--model", model, *words, code=2)
    assert said in " ".join(outcome.err.replace("│", " ").split())


def test_a_report_is_json_or_another_format(ragcun, smoke_workspace):
    assert ragcun("report", "-w", smoke_workspace, "-f", "csv", "--json").code == 2


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b""])
def test_weights_that_were_cut_are_one_error(evaluate, model, damage):
    file = next(model.glob("**/model.safetensors"))
    file.write_bytes(damage(file.read_bytes()))
    assert "cannot be loaded" in evaluate("--model", model, code=2).err


def test_more_tokens_than_positions_are_one_error(evaluate, model, workspace):
    words = ("--model", workspace / "data/encoders/tiny", "--set", "encoder.max_seq_length=5000")
    assert "tiny has 64 positions" in evaluate(*words, code=2).err


def test_a_run_that_is_left_out_is_said(ragcun, workspace):
    file = next(workspace.glob("runs/with_isotropy/*/seed-1/training_log.jsonl"))
    file.write_text(file.read_text()[:-5])
    outcome = ragcun("report", "--all-runs", "-w", workspace)
    assert "left out: with_isotropy, seed 1" in outcome.err


def test_a_router_is_evaluated_with_a_route_for_each_side(evaluate, model, tmp_path):
    from sentence_transformers.sentence_transformer.modules import Router

    parts = [list(SentenceTransformer(str(model), device="cpu")) for _ in range(2)]
    routed = SentenceTransformer(
        modules=[Router.for_query_document(query_modules=parts[0], document_modules=parts[1])],
        device="cpu",
        similarity_fn_name="cosine",
    )
    routed.save(str(tmp_path / "router"))
    rows = json.loads(evaluate("--model", tmp_path / "router", "--json").out)
    assert rows[0]["metrics"]["ndcg@10"] > 0


def test_judgements_that_no_ranking_reaches_are_said_and_count_as_not_found(
    ragcun, workspace, model, tmp_path
):
    """Both queries are the text of a passage: one of another id, one of its own."""
    texts = {"d1": "sort rows", "d2": "mean of an array", "d3": "shortest path"}
    queries = {"q1": texts["d1"], "d2": texts["d2"]}
    rows = [
        [{"_id": name, "text": text} for name, text in some.items()] for some in (texts, queries)
    ]
    mine = tmp_path / "mine"
    (mine / "qrels").mkdir(parents=True)
    for name, content in zip(("corpus", "queries"), rows, strict=True):
        (mine / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    (mine / "qrels/test.tsv").write_text("q1\td1\t1\nd2\td2\t1\nd2\td3\t1\n")
    said = "1 judgements above 0 that no ranking can reach, counted as not found"
    assert said in ragcun("data", "import", mine, "--name", "own", "-w", workspace).err
    outcome = ragcun("eval", "--model", model, "--datasets", "own", "-w", workspace)
    assert f"own: {said}" in outcome.err
    file = next(workspace.glob("runs/untouched/*/eval/own/per_query.jsonl"))
    scores = {row["query"]: row for row in map(json.loads, file.read_text().splitlines())}
    assert scores["q1"]["recall@10"] == 1.0
    assert scores["d2"]["recall@10"] == 0.5  # of its own passage, never found, and of d3
