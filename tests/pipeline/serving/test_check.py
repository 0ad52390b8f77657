import json

import numpy as np
import pytest
import torch
from embedding_server import serving
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch.nn.functional import normalize

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.judged import read_judged_set
from ragcun_cli.pipeline.serving import endpoint
from ragcun_cli.pipeline.serving.check import check_endpoint, check_vectors
from ragcun_cli.pipeline.serving.compare import NO_FORM, Sample, compare_top_ten, largest
from ragcun_cli.pipeline.serving.endpoint import Endpoint, ServerError
from ragcun_cli.pipeline.serving.forms import LocalModel
from ragcun_cli.pipeline.serving.texts import check_texts
from ragcun_cli.spec.errors import DataError


def embedding(model, change=lambda rows: rows, *, prompts=False, precision=None):
    """What a server computes: its own copy of a model, one batch at a time."""

    def embed(texts, prompt_name):
        before = model.prompts.get(prompt_name, "") if prompts and prompt_name else ""
        whole = [before + text for text in texts]
        with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            rows = model.encode(whole, prompt="", convert_to_tensor=True).float()
        return change(rows).tolist()

    return embed


def modules(model, kept):
    return SentenceTransformer(modules=list(model)[:kept], device="cpu")


def pooled(model, mode):
    parts = list(model)
    parts[1] = Pooling(32, mode)
    return SentenceTransformer(modules=parts, device="cpu")


def shorter(folder, length):
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = length
    return model


def checked(model, embed, *, api="tei", test=None, **more):
    with serving(embed, **more) as server:
        return check_endpoint(LocalModel(model), Endpoint(server.url, api), test, Silent())


def test_fifty_texts_have_short_long_foreign_and_nearly_empty_ones(headed):
    texts = check_texts(headed)
    assert len(texts) == len({*texts}) == 50
    tokens = LocalModel(headed).tokens(texts, "document")
    assert min(map(len, texts)) == 1
    assert max(tokens) > headed.max_seq_length
    assert sum(not text.isascii() for text in texts) >= 12


@pytest.mark.parametrize("api", ["openai", "tei"])
def test_nothing_is_named_for_a_server_that_is_right(headed, api):
    """One of OpenAI's form gives its vectors in the wrong order, with the right index."""
    found = checked(headed, embedding(headed), api=api)
    assert (found["equal"], found["causes"], found["notes"]) == (True, [], [])
    assert found["largest_difference_of_the_norm"] < 1e-5
    assert found["best_ten"]["shared"] > 0.95  # foreign words are unknown to the tiny model: ties
    assert found["dimensions"] == {"model": 48, "served": 48}


def test_a_server_that_sorts_its_batch_and_answers_in_order_is_right(headed):
    def embed(texts, prompt_name):
        order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
        rows = headed.encode([texts[n] for n in order]).tolist()
        return [row for _, row in sorted(zip(order, rows, strict=True))]

    assert checked(headed, embed)["equal"]


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_a_note(headed, precision):
    found = checked(headed, embedding(headed, precision=precision))
    assert (found["equal"], found["causes"]) == (True, [])
    assert found["largest_difference_of_the_norm"] > 1e-4
    assert "half precision" in found["notes"][0]


def test_vectors_that_are_rounded_to_fp16_are_the_models(headed):
    assert checked(headed, embedding(headed, lambda rows: rows.half().float()))["equal"]


FAULTS = {
    "base without head, normalised": lambda m, f: embedding(modules(m, 2), normalize),
    "base without head, the base not normalised": lambda m, f: embedding(modules(m, 2)),
    "normalised": lambda m, f: embedding(m, normalize),
    "texts cut at 32 tokens instead of 64": lambda m, f: embedding(shorter(f, 32)),
    "texts cut at 62 tokens instead of 64": lambda m, f: embedding(shorter(f, 62)),
    "pooling cls instead of mean": lambda m, f: embedding(pooled(m, "cls")),
    "pooling max instead of mean": lambda m, f: embedding(pooled(m, "max")),
    "pooling lasttoken instead of mean": lambda m, f: embedding(pooled(m, "lasttoken")),
    "order mixed up": lambda m, f: embedding(m, lambda rows: rows.roll(1, 0)),
    "cut to the first 20 dimensions": lambda m, f: embedding(m, lambda rows: rows[:, :20]),
    "the base not normalised": lambda m, f: embedding(
        SentenceTransformer(modules=[*list(m)[:2], *list(m)[3:]], device="cpu")
    ),
    "pooling cls instead of mean, normalised": lambda m, f: embedding(pooled(m, "cls"), normalize),
    "normalised, order mixed up": lambda m, f: embedding(
        m, lambda rows: normalize(rows).roll(1, 0)
    ),
    "base without head, texts cut at 32 tokens instead of 64, normalised": lambda m, f: embedding(
        modules(shorter(f, 32), 2), normalize
    ),
    NO_FORM: lambda m, f: embedding(m, lambda rows: rows * torch.linspace(1, 3, 48)),
}


@pytest.mark.parametrize("cause", FAULTS)
def test_the_cause_is_named(headed, folder_of_headed, cause):
    found = checked(headed, FAULTS[cause](headed, folder_of_headed))
    assert ", ".join(found["causes"]) == cause
    assert not found["equal"]


def test_a_head_served_in_half_precision_without_it_is_named_all_the_same(headed):
    embed = embedding(modules(headed, 2), normalize, precision=torch.bfloat16)
    assert checked(headed, embed)["causes"] == ["base without head", "normalised"]


def test_a_model_with_a_normalize_that_is_left_out_is_named(headed):
    base = modules(headed, 3)
    assert checked(base, embedding(modules(headed, 2)))["causes"] == ["not normalised"]
    assert checked(base, embedding(modules(headed, 2), normalize))["equal"]


def test_prompts_of_both_sides_are_asked_for_by_name(prompted):
    with serving(embedding(prompted, prompts=True)) as server:
        end = Endpoint(server.url, "tei")
        found = check_endpoint(LocalModel(prompted), end, None, Silent())
    assert found["equal"]
    assert found["texts"] == 100
    assert {body["prompt_name"] for body in server.bodies} == {"query", "document"}


def test_a_prompt_that_is_missing_is_named_and_whose_it_is(prompted):
    found = checked(prompted, embedding(prompted))
    assert found["causes"] == ["prompt missing"]

    def embed(texts, prompt_name):
        return embedding(prompted, prompts=True)(texts, "query" if prompt_name else None)

    found = checked(prompted, embed)
    assert found["causes"] == ["prompt of the other side (query) (document texts)"]


def test_openais_form_gets_the_prompts_in_the_texts(prompted):
    with serving(embedding(prompted)) as server:
        found = check_endpoint(LocalModel(prompted), Endpoint(server.url), None, Silent())
    assert found["equal"]
    assert "each client" in found["notes"][0]
    assert {body["input"][0] for body in server.bodies} >= {"ask it: .", "read: ."}
    found = checked(
        prompted,
        lambda texts, name: embedding(prompted)(["read: " + text for text in texts], None),
        api="openai",
    )
    assert "prompt put twice (document texts)" in found["causes"]


def test_texts_that_the_server_refuses_are_counted(headed):
    def spoil(rows):
        return rows

    def embed(texts, prompt_name):
        if any(len(text.split()) > 60 for text in texts):
            embed.refused += 1
            return None
        return embedding(headed)(texts, prompt_name)

    embed.refused = 0

    def refusing(rows):
        return rows if rows is not None else (400, "application/json", {"error": "too long"})

    found = checked(headed, embed, spoil=refusing, api="openai")
    assert found["equal"]
    assert found["texts"] == 45
    assert found["notes"][0].startswith("the server refuses 5 of 50 texts")
    assert embed.refused >= 5


@pytest.fixture
def small_set(tmp_path):
    corpus = {
        f"p{n:03}": f"passage {n} about the sea {'and its tides ' * (n % 9)}" for n in range(90)
    }
    queries = {f"q{n}": f"which passage is about tide {n}?" for n in range(12)}
    qrels = {query: {f"p{n:03}": 1} for n, query in enumerate(queries)}
    beir.write_set(tmp_path / "sea", corpus=corpus, queries=queries, qrels={"test": qrels})
    return read_judged_set("sea", tmp_path / "sea")


def test_the_best_ten_are_compared_on_a_set(headed, small_set):
    found = checked(headed, embedding(headed), test=small_set)
    assert (found["best_ten"]["queries"], found["best_ten"]["passages"]) == (12, 90)
    assert found["best_ten"]["on"] == "sea"
    assert found["equal"]


def stored(folder, vectors, names):
    np.save(folder / "v.npy", np.asarray(vectors))
    (folder / "ids.txt").write_text("".join(f"{name}\n" for name in names))
    return folder / "v.npy", folder / "ids.txt"


def test_vectors_of_a_store_are_checked_by_their_ids(headed, small_set, tmp_path):
    names = list(small_set.corpus.ids)[::-1]
    vectors = headed.encode(small_set.corpus.texts_by_id(names))
    local = LocalModel(headed)

    def causes(rows, ids=names):
        files = stored(tmp_path, rows, ids)
        return check_vectors(local, *files, small_set, Silent())["causes"]

    assert causes(vectors) == []
    assert causes(vectors.astype(np.float16)) == []
    assert causes(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) == ["normalised"]
    assert causes(vectors[::-1]) == ["order mixed up"]
    assert causes(modules(headed, 3).encode(small_set.corpus.texts_by_id(names))) == [
        "base without head",
        "normalised",
    ]


def test_files_of_a_store_that_do_not_belong_together_are_refused(headed, small_set, tmp_path):
    names = list(small_set.corpus.ids)
    vectors = np.ones((90, 48), np.float32)
    for rows, ids, said in (
        (vectors[:80], names, "90 ids"),
        (vectors, [*names[:-1], names[0]], "89 of them different"),
        (vectors, [*names[:-1], "nobody"], "lacks 1 of the 90 ids, as 'nobody'"),
        (vectors.astype(np.int8), names, "int8"),
        (vectors[0], names, "shape"),
        (vectors * np.nan, names, "not finite"),
    ):
        files = stored(tmp_path, rows, ids)
        with pytest.raises(DataError, match=said):
            check_vectors(LocalModel(headed), *files, small_set, Silent())
    (tmp_path / "v.npy").write_bytes(b"no vectors")
    with pytest.raises(DataError, match="cannot be read"):
        check_vectors(LocalModel(headed), *files, small_set, Silent())


NOTHING = {"prompt": "", "prompt_name": None, "progress": Silent()}


def row(value):
    return [value] * 48


LIES = {
    "HTTP 401": {"answer": (401, "text/plain", b"who are you")},
    "HTTP 404": {"answer": (404, "text/html", b"<html>nothing</html>")},
    "HTTP 500": {"answer": (500, "text/plain", b"oh no")},
    "HTTP 422": {"answer": (422, "application/json", {"error": "no"})},
    "no JSON": {"answer": (200, "text/html", b"<html>welcome</html>")},
    "no 8 vectors of numbers for 8 texts": {"spoil": lambda rows: rows[1:]},
    "no 8 vectors of numbers for 8 texts     ": {"spoil": lambda rows: [[1.0], *rows[1:]]},
    "several lengths": {"spoil": lambda rows: [row[: 40 + len(rows)] for row in rows]},
    "not finite": {"spoil": lambda rows: [row(float("nan")), *rows[1:]]},
    "not finite ": {"spoil": lambda rows: [row(1e39), *rows[1:]]},
    "no 8 vectors of numbers for 8 texts  ": {"spoil": lambda rows: [row(None), *rows[1:]]},
    "no 8 vectors of numbers for 8 texts ": {"spoil": lambda rows: [row("x"), *rows[1:]]},
    "no 8 vectors of numbers for 8 texts    ": {
        "spoil": lambda rows: {"error": "model is loading"}
    },
    "no 8 vectors of numbers for 8 texts   ": {"spoil": lambda rows: "x" * len(rows)},
}


RIGHT_FORM = {"not finite", "not finite ", "several lengths"} | {
    f"no 8 vectors of numbers for 8 texts{' ' * spaces}" for spaces in (0, 1, 2, 5)
}


@pytest.mark.parametrize("api", ["openai", "tei"])
@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_gives_no_vectors_is_told_in_one_message(headed, lie, api):
    with pytest.raises(ServerError, match=lie.strip()) as told:
        checked(headed, embedding(headed), api=api, **LIES[lie])
    assert told.value.hint
    if lie in RIGHT_FORM:
        assert "--api" not in told.value.hint
    assert told.value.exit_code == 2
    assert "0x" not in str(told.value)


def test_a_slow_or_absent_server_is_told(headed, monkeypatch):
    monkeypatch.setattr(endpoint, "TIMEOUT", (0.2, 0.2))
    with pytest.raises(ServerError, match="no answer in"):
        checked(headed, embedding(headed), wait=1.0)
    with serving(embedding(headed)) as server:
        url = server.url
    for address, said in (
        (url, "refused"),
        ("localhost:80", "is no address"),
        ("ftp://here", "is no address"),
        ("http://", "is no address"),
        ("http://no.such.host.invalid", "cannot be reached"),
    ):
        with pytest.raises(ServerError, match=said) as told:
            check_endpoint(LocalModel(headed), Endpoint(address), None, Silent())
        assert told.value.hint.startswith(("--url http://", "curl -i"))


def test_the_key_is_sent_and_never_said(headed, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sesame-open")
    with serving(embedding(headed), answer=(401, "text/plain", b"sesame-open is wrong")) as server:
        end = Endpoint(server.url, "tei", "MY_KEY")
        with pytest.raises(ServerError, match="is wrong") as told:
            check_endpoint(LocalModel(headed), end, None, Silent())
    assert server.keys == {"Bearer sesame-open"}
    assert "sesame" not in f"{told.value} {told.value.hint}"
    assert str(told.value).endswith("is wrong: the key in MY_KEY was refused")
    assert told.value.hint == "export MY_KEY=..., a key that may do this"
    page = "<p>sesame-open</p>\n" * 9
    with (
        serving(embedding(headed), answer=(200, "application/json", page.encode())) as server,
        pytest.raises(ServerError, match="application/json, which is no JSON: '<p>") as told,
    ):
        Endpoint(server.url, "tei", "MY_KEY").embed(["a"], **NOTHING)
    assert "sesame" not in str(told.value)
    assert len(str(told.value).partition("JSON: ")[2]) == 62
    with pytest.raises(ServerError, match="NO_SUCH_KEY, and that variable is not set"):
        Endpoint(server.url, "tei", "NO_SUCH_KEY").embed(["a"], **NOTHING)


def test_the_first_model_that_the_server_lists_is_asked(headed):
    with serving(embedding(headed), models=["theirs", "other"]) as server:
        Endpoint(server.url).embed(["a"], **NOTHING)
        end = Endpoint(f"{server.url}/v1/")
        end.embed(["a"], **NOTHING)
        Endpoint(f"{server.url}/v1/embeddings").embed(["a"], **NOTHING)
    assert [body["model"] for body in server.bodies] == ["theirs"] * 3
    assert json.dumps(server.bodies).count("float") == 3


def test_a_static_model_is_checked_too():
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "and": 2, "a": 3}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    assert checked(model, embedding(model))["equal"]
    found = checked(model, embedding(model, normalize))
    assert found["causes"] == ["normalised"]


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(["euclidean", "cosine", "dot"]))
def test_the_best_ten_are_those_of_a_plain_loop(seed, similarity):
    generator = torch.Generator().manual_seed(seed)
    own_q, own_p = torch.randn(4, 6, generator=generator), torch.randn(25, 6, generator=generator)
    other_q = own_q + 0.3 * torch.randn(4, 6, generator=generator)
    queries = Sample("query", (), other_q, own_q)
    found = compare_top_ten(queries, Sample("document", (), own_p, own_p), similarity)

    def score(q, p):
        if similarity == "euclidean":
            return -np.linalg.norm(q - p)
        return q @ p / (np.linalg.norm(q) * np.linalg.norm(p) if similarity == "cosine" else 1)

    def best(queries):
        return [
            {*sorted(range(25), key=lambda n: -score(q, own_p[n].double().numpy()))[:10]}
            for q in queries.double().numpy()
        ]

    pairs = list(zip(best(own_q), best(other_q), strict=True))
    assert found["shared"] == pytest.approx(np.mean([len(a & b) / 10 for a, b in pairs]))
    assert found["agree"] or found["shared"] < 1
    assert largest(own_q, own_q) == 0
