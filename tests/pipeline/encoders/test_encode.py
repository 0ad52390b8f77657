import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from ragcun_cli.pipeline.encoders.encode import FEWER_TEXTS, encode, encode_block
from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import EncoderError

TEXTS = [
    "a",
    "sort the rows of a matrix " * 30,
    "",
    "nodes and edges",
    "é" * 40,
    "an array of numbers, and what it is for",
    "https://a.b/c?d=e&f=g " * 4,
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    build_tiny_encoder(folder)
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = 24
    return model


@pytest.mark.parametrize("side", ["query", "document", None])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_embeddings_are_those_of_sentence_transformers(tiny, side, size):
    tiny.prompts = {"query": "ask: ", "passage": "read: "}
    plain = {"query": tiny.encode_query, "document": tiny.encode_document, None: tiny.encode}[side]
    expected = plain(TEXTS, convert_to_tensor=True)
    found = encode_block(tiny, TEXTS, side=side, batch_size=size)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-6)
    others = {None, "query", "document"} - {side}
    assert not any(
        torch.allclose(found, encode_block(tiny, TEXTS, side=s, batch_size=8)) for s in others
    )


def test_no_prompt_is_none_even_where_the_model_has_a_default(tiny):
    tiny.prompts, tiny.default_prompt_name = {"ask": "ask: "}, "ask"
    try:
        plain = encode_block(tiny, TEXTS, prompt="", batch_size=8)
        assert torch.allclose(
            plain, tiny.encode(TEXTS, prompt="", convert_to_tensor=True), atol=1e-6
        )
        asked = encode_block(tiny, TEXTS, side="query", batch_size=8)
        assert torch.allclose(asked, tiny.encode_query(TEXTS, convert_to_tensor=True), atol=1e-6)
        assert not torch.allclose(asked, plain)
    finally:
        tiny.default_prompt_name = None


def test_a_given_prompt_goes_before_the_texts(tiny):
    tiny.prompts = {}
    expected = encode_block(tiny, [f"read: {text}" for text in TEXTS], batch_size=8)
    assert torch.allclose(
        encode_block(tiny, TEXTS, prompt="read: ", batch_size=8), expected, atol=1e-6
    )


def test_batches_hold_texts_of_like_length_in_tokens(tiny):
    widths = []
    hook = tiny[0].register_forward_pre_hook(
        lambda module, args: widths.append(tuple(args[0]["input_ids"].shape))
    )
    try:
        encode_block(tiny, TEXTS, batch_size=2)
    finally:
        hook.remove()
    assert [rows for rows, _ in widths] == [2, 2, 2, 1]
    lengths = [
        len(ids) for ids in tiny.tokenizer(TEXTS, truncation=True, max_length=24)["input_ids"]
    ]
    lengths.sort(reverse=True)
    assert [width for _, width in widths] == lengths[::2]


def test_static_embeddings_are_encoded_too():
    words = {"[UNK]": 0, "sort": 1, "rows": 2, "edges": 3}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")
    texts = ["sort rows", "edges", "sort sort edges"]
    found = encode_block(model, texts, batch_size=2)
    assert torch.allclose(found, model.encode(texts, convert_to_tensor=True), atol=1e-6)


def test_a_shorter_dimension_of_the_model_is_kept(tiny):
    tiny.prompts = {}
    whole = encode_block(tiny, TEXTS, batch_size=4)
    tiny.truncate_dim = 5
    try:
        assert torch.equal(encode_block(tiny, TEXTS, batch_size=4), whole[:, :5])
    finally:
        tiny.truncate_dim = None


def test_long_lists_are_encoded_in_blocks(tiny, monkeypatch):
    tiny.prompts = {}
    whole = encode(tiny, TEXTS, batch_size=4, label="x", progress=Silent())
    monkeypatch.setattr("ragcun_cli.pipeline.encoders.encode.TEXTS_AT_ONCE", 3)
    blocks = encode(tiny, TEXTS, batch_size=4, label="x", progress=Silent())
    assert blocks.shape == whole.shape == (7, 32)
    assert torch.allclose(blocks, whole, atol=1e-6)


def test_no_texts_are_refused(tiny):
    with pytest.raises(ValueError, match="no texts"):
        encode_block(tiny, [], batch_size=4)


@pytest.fixture
def failing(tiny):
    """Let the model do something before it encodes."""
    hooks = []

    def prepare(action):
        hooks.append(tiny.register_forward_pre_hook(lambda *_: action()))
        return tiny

    yield prepare
    for hook in hooks:
        hook.remove()


def test_a_text_of_more_tokens_than_the_model_has_positions_is_the_persons_to_mend(tiny):
    tiny.max_seq_length = 65
    try:
        with pytest.raises(EncoderError, match="cannot encode these texts") as caught:
            encode_block(tiny, ["word " * 100], batch_size=8)
    finally:
        tiny.max_seq_length = 24
    assert "max_seq_length" in caught.value.hint


def test_a_token_that_the_model_does_not_know_is_the_persons_to_mend(failing):
    model = failing(lambda: torch.nn.Embedding(3, 2)(torch.tensor([3])))
    with pytest.raises(EncoderError, match="index out of range") as caught:
        encode_block(model, TEXTS, batch_size=8)
    assert "its own tokenizer" in caught.value.hint


def test_memory_that_gives_out_asks_for_smaller_batches(failing):
    model = failing(lambda: torch.empty(1 << 60))
    with pytest.raises(EncoderError, match="memory gave out while encoding") as caught:
        encode_block(model, TEXTS, batch_size=8)
    assert caught.value.hint == FEWER_TEXTS


def test_whatever_the_model_raises_is_one_message_that_names_it(failing):
    model = failing(lambda: torch.ones(2) @ torch.ones(3))
    model[0].loaded_from = "some/folder"
    try:
        with pytest.raises(
            EncoderError, match=r"some/folder cannot encode .*inconsistent"
        ) as caught:
            encode_block(model, TEXTS, batch_size=8)
    finally:
        del model[0].loaded_from
    assert caught.value.hint is None


def test_sizes_that_do_not_fit_are_no_matter_of_the_length_of_texts(failing):
    model = failing(lambda: torch.ones(2, 8) + torch.ones(2, 32))
    with pytest.raises(
        EncoderError, match=r"tensor a \(8\) must match .* tensor b \(32\)"
    ) as caught:
        encode_block(model, TEXTS, batch_size=8)
    assert caught.value.hint is None


def test_what_a_tokenizer_raises_is_one_message_too(tiny, monkeypatch):
    def preprocess(*texts, **settings):
        raise TypeError("TextEncodeInput must be Union")

    monkeypatch.setattr(tiny, "preprocess", preprocess)
    with pytest.raises(EncoderError, match="cannot encode these texts: TextEncodeInput must be"):
        encode_block(tiny, TEXTS, batch_size=8)


def test_a_bug_beside_the_model_keeps_its_traceback(tiny):
    with pytest.raises(TypeError, match="int"):
        encode_block(tiny, TEXTS, batch_size=8, advance=lambda count: len(count))
