import math

import numpy as np
import pytest
import torch
from sentence_transformers.util import quantize_embeddings

from ragcun_cli.core.search.quantise import parse_variant
from ragcun_cli.core.search.ranking import ExactTopK


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ranked(codec, queries, passages, *, k):
    search = ExactTopK(codec.queries(queries), k=k, similarity=codec.similarity)
    search.add(codec.passages(passages), first_row=0)
    return search.hits()


@pytest.mark.parametrize("name", ["int8", "binary", "binary-rescored", "truncate-128"])
def test_a_name_that_is_read_is_the_name_of_what_was_read(name):
    assert parse_variant(name).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int4", "no variant"),
        ("", "no variant"),
        ("INT8", "no variant"),
        ("truncate", "number of dimensions"),
        ("truncate-0", "number of dimensions"),
        ("truncate--3", "number of dimensions"),
        ("truncate-0128", "number of dimensions"),
        ("truncate-1.5", "number of dimensions"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse_variant(name)


def test_int8_by_hand():
    sample = torch.tensor([[0.0, -1.0, 3.0], [255.0, 1.0, 3.0]])
    codec = parse_variant("int8").fit(sample, similarity="dot")
    passages = torch.tensor([[0.0, 0.0, 3.0], [10.7, 0.99, 9.0], [1000.0, -8.0, -9.0]])
    half = 1 / 255
    expected = [
        [0.5, -1 + 127.5 * 2 * half, 3],
        [10.5, -1 + 253.5 * 2 * half, 3],
        [255.5, -1 + half, 3],
    ]
    torch.testing.assert_close(codec.passages(passages), torch.tensor(expected))
    assert codec.similarity == "dot"
    assert codec.bytes_per_passage == 3


def test_int8_has_the_codes_of_sentence_transformers():
    sample, passages = drawn(500, 24), drawn(200, 24, seed=1)
    theirs = quantize_embeddings(
        passages.numpy(), "int8", calibration_embeddings=sample.numpy()
    ).astype(int)
    low, high = sample.amin(0), sample.amax(0)
    middles = parse_variant("int8").fit(sample, similarity="dot").passages(passages)
    codes = ((middles - low) / ((high - low) / 255) - 0.5).round().int() - 128
    assert np.array_equal(codes.numpy(), theirs)
    assert len(np.unique(theirs)) > 200


def test_int8_is_at_most_half_a_level_off_within_the_range():
    sample = drawn(300, 16)
    codec = parse_variant("int8").fit(sample, similarity="euclidean")
    level = (sample.amax(0) - sample.amin(0)) / 255
    error = (codec.passages(sample) - sample).abs() / level
    assert 0.45 < error.max() <= 0.5 + 1e-3
    queries = drawn(3, 16, seed=2)
    assert torch.equal(codec.queries(queries), queries)


def test_binary_by_hand():
    sample = torch.tensor([[0.0, 0, 0], [2.0, 4, -2]])
    codec = parse_variant("binary").fit(sample, similarity="cosine")
    expected = torch.tensor([[1.0, -1, -1], [-1.0, 1, 1]])
    vectors = torch.tensor([[1.5, 2, -1], [0.0, 2.1, -0.5]])
    assert torch.equal(codec.passages(vectors), expected)
    assert torch.equal(codec.queries(vectors), expected)
    assert codec.similarity == "dot"


def test_binary_ranks_by_hamming_distance_with_ties_to_the_lower_row():
    queries, passages = drawn(7, 20, seed=3), drawn(200, 20, seed=4)
    codec = parse_variant("binary").fit(passages, similarity="euclidean")
    hits = ranked(codec, queries, passages, k=50)
    centre = passages.double().mean(0).float()
    bits = (passages > centre).numpy()
    for row, query in enumerate((queries > centre).numpy()):
        hamming = (bits != query).sum(1)
        expected = np.lexsort((np.arange(200), hamming))[:50]
        assert hits.rows[row].tolist() == expected.tolist()
        assert hits.scores[row].tolist() == (20 - 2 * hamming[expected]).tolist()
        assert len(set(hamming[expected])) < 50


def test_binary_is_blind_to_scale_and_to_an_offset():
    sample, vectors = drawn(100, 12), drawn(50, 12, seed=1)
    codec = parse_variant("binary").fit(sample, similarity="cosine")
    moved = parse_variant("binary").fit(4 * sample + 8, similarity="cosine")
    assert torch.equal(codec.passages(vectors), moved.passages(4 * vectors + 8))


def test_rescored_binary_keeps_the_centred_query():
    sample, queries = drawn(100, 12) + 1, drawn(5, 12, seed=1)
    codec = parse_variant("binary-rescored").fit(sample, similarity="euclidean")
    plain = parse_variant("binary").fit(sample, similarity="euclidean")
    torch.testing.assert_close(codec.queries(queries), queries - sample.mean(0))
    assert torch.equal(codec.passages(sample), plain.passages(sample))
    assert (codec.similarity, codec.bytes_per_passage) == ("dot", 2)


@pytest.mark.parametrize("similarity", ["euclidean", "dot", "cosine"])
def test_truncated_vectors_rank_as_their_first_dimensions(similarity):
    queries, passages = drawn(4, 10, seed=5), drawn(60, 10, seed=6)
    codec = parse_variant("truncate-3").fit(passages[:1], similarity=similarity)
    hits = ranked(codec, queries, passages, k=60)
    q, p = queries[:, None, :3].double(), passages[None, :, :3].double()
    scores = {
        "euclidean": -(q - p).norm(dim=2),
        "dot": (q * p).sum(2),
        "cosine": (q * p).sum(2) / (q.norm(dim=2) * p.norm(dim=2)),
    }[similarity]
    assert hits.rows.tolist() == scores.argsort(descending=True).tolist()
    lengths = codec.passages(passages).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(60)) is (similarity == "cosine")


def test_truncation_to_the_whole_width_changes_nothing_and_beyond_is_refused():
    sample = drawn(2, 8)
    codec = parse_variant("truncate-8").fit(sample, similarity="euclidean")
    assert torch.equal(codec.passages(sample), sample)
    with pytest.raises(ValueError, match="8 dimensions"):
        parse_variant("truncate-9").fit(sample, similarity="euclidean")


def test_int8_ranks_nearly_as_float32_and_binary_less_so():
    passages = drawn(400, 64, seed=7)
    queries = passages[:40] + 0.9 * drawn(40, 64, seed=8)
    exact = ExactTopK(queries, k=10, similarity="cosine")
    exact.add(passages, first_row=0)
    truth = exact.hits().rows
    shares = {}
    for name in ("int8", "binary-rescored", "binary"):
        codec = parse_variant(name).fit(passages, similarity="cosine")
        rows = ranked(codec, queries, passages, k=10).rows
        shares[name] = np.mean(
            [len(set(a) & set(b)) / 10 for a, b in zip(rows, truth, strict=True)]
        )
    assert shares["int8"] > 0.95 > shares["binary-rescored"] > shares["binary"] > 0.2


@pytest.mark.parametrize(
    ("name", "size"),
    [("int8", 500), ("binary", 63), ("binary-rescored", 63), ("truncate-128", 512)],
)
def test_bytes_of_a_passage(name, size):
    codec = parse_variant(name).fit(drawn(2, 500), similarity="dot")
    assert codec.bytes_per_passage == size


def test_a_sample_that_says_nothing_is_refused_where_its_values_matter():
    for sample in (drawn(1, 8), torch.tensor([[1.0, math.nan], [0, 0]]), drawn(8)):
        for name in ("int8", "binary"):
            with pytest.raises(ValueError, match=r"passages|matrix"):
                parse_variant(name).fit(sample, similarity="dot")


def test_half_precision_is_widened():
    sample = drawn(10, 4).half()
    for name in ("int8", "binary", "binary-rescored", "truncate-2"):
        codec = parse_variant(name).fit(sample, similarity="cosine")
        assert codec.queries(sample).dtype == codec.passages(sample).dtype == torch.float32
