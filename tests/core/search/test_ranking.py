import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragcun_cli.core.search import topk_cpu, topk_kernels, topk_torch
from ragcun_cli.core.search.ranking import ExactTopK, Hits, exact_scores, merge

SIMILARITIES = ("euclidean", "cosine", "dot")


class TorchTopK(ExactTopK):
    """As on a GPU, but for the device."""

    _on_cpu = topk_torch.TorchRanking


PATHS = (ExactTopK, TorchTopK)
paths = pytest.mark.parametrize("path", PATHS, ids=("cpu", "torch"))


def brute_force(queries, passages, *, k, similarity):
    """Every score in float64, then a stable sort: equal scores stay in order of row."""
    left, right = (tensor.double().numpy() for tensor in (queries, passages))
    if similarity == "euclidean":
        scores = -np.sqrt(((left[:, None] - right[None]) ** 2).sum(-1))
    else:
        scores = (left[:, None] * right[None]).sum(-1)
    if similarity == "cosine":
        lengths = [np.sqrt((rows**2).sum(-1)) for rows in (left, right)]
        scores = scores / (lengths[0][:, None] * lengths[1][None])
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, axis=1)


def rank(queries, passages, *, k, similarity, cuts=(), path=ExactTopK):
    top = path(queries, k=k, similarity=similarity)
    edges = [0, *cuts, len(passages)]
    for first, last in itertools.pairwise(edges):
        top.add(passages[first:last], first_row=first)
    return top.hits()


def assert_same(hits, expected):
    rows, scores = expected
    np.testing.assert_array_equal(hits.rows, rows)
    np.testing.assert_allclose(hits.scores, scores, rtol=1e-12, atol=1e-12)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def problems(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    queries, passages = draw(st.integers(1, 9)), draw(st.integers(1, 60))
    dimensions = draw(st.integers(1, 9))
    similarity = draw(st.sampled_from(SIMILARITIES))
    # Whole numbers: every sum is exact, so scores tie exactly where mathematics says so.
    low, high = (1, 4) if similarity == "cosine" else (-2, 3)
    offset = draw(st.sampled_from([0, 0, 1000]))
    shapes = ((queries, dimensions), (passages, dimensions))
    rows = [torch.randint(low, high, shape, generator=generator) + offset for shape in shapes]
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16]))
    cuts = draw(st.lists(st.integers(0, passages), max_size=8).map(sorted))
    k = draw(st.integers(1, 70))
    return [row.to(dtype) for row in rows], {"k": k, "similarity": similarity}, cuts


def assert_same_bytes(hits, other):
    assert hits.rows.tobytes() == other.rows.tobytes()
    assert hits.scores.tobytes() == other.scores.tobytes()
    assert hits.rows.shape == other.rows.shape


@settings(max_examples=1000, deadline=None)
@given(problems())
def test_hits_are_those_of_brute_force_whatever_the_chunks(problem):
    (queries, passages), arguments, cuts = problem
    expected = brute_force(queries, passages, **arguments)
    whole = rank(queries, passages, **arguments)
    assert_same(whole, expected)
    for path in PATHS:
        assert_same_bytes(rank(queries, passages, cuts=cuts, path=path, **arguments), whole)


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 4), st.integers(1, 9), st.integers(1, 30))
def test_hits_do_not_depend_on_the_sizes_of_blocks(problem, queries_once, passages_once, elements):
    (queries, passages), arguments, cuts = problem
    whole = rank(queries, passages, **arguments)
    with pytest.MonkeyPatch.context() as patch:
        for module in (topk_cpu, topk_torch):
            patch.setattr(module, "_QUERIES_AT_ONCE", queries_once)
            patch.setattr(module, "_PASSAGES_AT_ONCE", passages_once)
        patch.setattr(topk_torch, "_ELEMENTS_AT_ONCE", elements)
        for path in PATHS:
            assert_same_bytes(rank(queries, passages, cuts=cuts, path=path, **arguments), whole)


@settings(max_examples=200, deadline=None)
@given(problems(), st.randoms())
def test_parts_in_any_order_merged_or_continued_give_the_bytes_of_one_search(problem, random):
    (queries, passages), arguments, cuts = problem
    whole = rank(queries, passages, **arguments)
    parts = list(itertools.pairwise([0, *cuts, len(passages)]))
    random.shuffle(parts)
    for path in PATHS:
        held, shards = None, []
        for first, last in parts:
            search = path(queries, held=held, **arguments)
            search.add(passages[first:last], first_row=first)
            held = search.hits()
            alone = path(queries, **arguments)
            alone.add(passages[first:last], first_row=first)
            shards.append(alone.hits())
        assert_same_bytes(held, whole)
        assert_same_bytes(merge(shards, k=arguments["k"]), whole)


@paths
def test_a_search_goes_on_after_its_hits_were_looked_at(path):
    queries, passages = gaussian(5, 8), gaussian(300, 8, seed=1)
    top = path(queries, k=20, similarity="dot")
    for first in range(0, 300, 30):
        top.add(passages[first : first + 30], first_row=first)
        seen = brute_force(queries, passages[: first + 30], k=20, similarity="dot")
        assert_same(top.hits(), seen)


def test_fewer_are_kept_of_hits_that_were_found_for_more():
    queries, passages = gaussian(3, 8), gaussian(90, 8, seed=1)
    deep = rank(queries, passages[:50], k=40, similarity="dot")
    for path in PATHS:
        top = path(queries, k=7, similarity="dot", held=deep)
        top.add(passages[50:], first_row=50)
        assert_same_bytes(top.hits(), rank(queries, passages, k=7, similarity="dot"))
    again = merge([deep], k=7)
    assert_same_bytes(again, rank(queries, passages[:50], k=7, similarity="dot"))


def test_what_cannot_be_merged_or_continued_is_refused():
    queries, passages = gaussian(3, 8), gaussian(20, 8, seed=1)
    hits = rank(queries, passages, k=5, similarity="dot")
    fewer = Hits(rows=hits.rows[:2], scores=hits.scores[:2])
    for call, why in (
        (lambda: merge([], k=5), "0 parts"),
        (lambda: merge([hits, fewer], k=5), "same queries"),
        (lambda: merge([hits, hits], k=5), f"same row: {hits.rows[0, 0]}"),
        (lambda: merge([hits], k=0), "k is 0"),
        (lambda: ExactTopK(queries, k=5, similarity="dot", held=fewer), "hits of 2 queries"),
    ):
        with pytest.raises(ValueError, match=why):
            call()


@pytest.mark.parametrize("width", [1, 2, 3, 5, 7, 8, 31, 64, 127, 512, 513])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_compiled_scores_are_those_of_torch_to_the_bit(similarity, width):
    queries, passages = gaussian(40, width) + 1e3, gaussian(40, width, seed=1) - 3
    left, right = (rows.repeat_interleave(40, 0) for rows in (queries, passages))
    right = passages.repeat(40, 1)
    expected = exact_scores(left.double(), right.double(), similarity=similarity).numpy()
    hits = rank(queries, passages, k=40, similarity=similarity)
    scores = np.empty((40, 40))
    np.put_along_axis(scores, hits.rows, hits.scores, axis=1)
    assert scores.tobytes() == expected.reshape(40, 40).tobytes()


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_many_passages_in_order_of_their_quality_are_ranked_right(similarity, offset):
    queries, passages = gaussian(7, 24), gaussian(20_000, 24, seed=1)
    passages[5_000:9_000] = passages[4_999]
    passages += offset / 24**0.5
    order = exact_scores(
        queries[:1].double().expand_as(passages), passages.double(), similarity=similarity
    ).argsort()
    passages = passages[order]
    expected = brute_force(queries, passages, k=300, similarity=similarity)
    for path in PATHS:
        hits = rank(queries, passages, k=300, similarity=similarity, cuts=(700, 9000), path=path)
        np.testing.assert_allclose(hits.scores, expected[1], rtol=1e-12, atol=1e-12)
    assert_same_bytes(hits, rank(queries, passages, k=300, similarity=similarity))


def test_equal_estimates_by_the_thousand_do_not_slow_the_choice():
    passages = torch.randint(0, 2, (16_000, 6), generator=torch.Generator().manual_seed(0)).float()
    top = ExactTopK(gaussian(4, 6), k=500, similarity="euclidean")
    top.add(passages, first_row=0)
    expected = brute_force(gaussian(4, 6), passages, k=500, similarity="euclidean")
    assert_same(top.hits(), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_hits_do_not_depend_on_the_number_of_threads(threads):
    queries, passages = gaussian(30, 16), gaussian(500, 16, seed=1)
    whole, before = rank(queries, passages, k=9, similarity="cosine"), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same_bytes(rank(queries, passages, k=9, similarity="cosine"), whole)
    finally:
        torch.set_num_threads(before)


@paths
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_real_embeddings_with_many_copies_rank_as_brute_force_ranks_them(similarity, path):
    queries, distinct = gaussian(20, 33), gaussian(150, 33, seed=1)
    passages = distinct[torch.randint(150, (700,), generator=torch.Generator().manual_seed(2))]
    for cuts in ((), (1,), range(0, 700, 13), range(1, 700)):
        hits = rank(queries, passages, k=40, similarity=similarity, cuts=cuts, path=path)
        assert_same(hits, brute_force(queries, passages, k=40, similarity=similarity))


@paths
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_passages_that_float32_scores_confuse_are_ranked_by_float64(similarity, path):
    queries = gaussian(8, 256)
    passages = gaussian(1, 256, seed=1) + 1e-6 * gaussian(400, 256, seed=2)
    expected = brute_force(queries, passages, k=10, similarity=similarity)
    careless = {
        "euclidean": lambda: 2 * queries @ passages.T - (passages**2).sum(1),
        "dot": lambda: queries @ passages.T,
        "cosine": lambda: torch.cosine_similarity(queries[:, None], passages[None], dim=2),
    }[similarity]()
    assert (careless.topk(10, dim=1).indices.numpy() != expected[0]).any()
    hits = rank(queries, passages, k=10, similarity=similarity, cuts=(7, 200), path=path)
    assert_same(hits, expected)


@paths
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_where_even_float64_rounds_its_rounding_decides(similarity, path):
    noise = torch.randint(0, 9, (300, 2), generator=torch.Generator().manual_seed(0)) * 2.0**-52
    for seed in range(20):
        queries = 1 + gaussian(4, 2, seed=seed).double().abs() * 1e-9
        arguments = {"k": 5, "similarity": similarity}
        expected = brute_force(queries, 1 + noise, **arguments)
        hits = rank(queries, 1 + noise, path=path, **arguments)
        np.testing.assert_array_equal(hits.rows, expected[0])


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("length", [1e-30, 1e-18, 1e-3, 1e4, 1e15])
def test_the_scale_of_the_embeddings_does_not_harm_the_order(similarity, length):
    queries, passages = gaussian(5, 12) * length, gaussian(90, 12, seed=1) * length
    passages[40] *= 100
    rows, scores = brute_force(queries, passages, k=7, similarity=similarity)
    hits = rank(queries, passages, k=7, similarity=similarity, cuts=(30, 60))
    np.testing.assert_array_equal(hits.rows, rows)
    np.testing.assert_allclose(hits.scores, scores, rtol=1e-10)


def test_euclidean_keeps_true_distances_under_a_large_common_offset():
    queries, passages = 3000 + gaussian(6, 64), 3000 + gaussian(200, 64, seed=1)
    expected = brute_force(queries, passages, k=5, similarity="euclidean")
    assert_same(rank(queries, passages, k=5, similarity="euclidean"), expected)


@paths
def test_identical_passages_are_returned_in_order_of_row_and_cost_no_more_than_k(path, monkeypatch):
    scored = []

    def spy(function, pairs):
        def counted(*arguments, **named):
            scored.append(pairs(*arguments))
            return function(*arguments, **named)

        return counted

    # Nothing outside shows how many pairs are scored in float64.
    in_torch = spy(topk_torch.exact_scores, lambda queries, passages: len(queries))
    compiled = spy(topk_kernels.compiled_scores, lambda *arguments: arguments[3][-1])
    monkeypatch.setattr(topk_torch, "exact_scores", in_torch)
    monkeypatch.setattr(topk_kernels, "compiled_scores", compiled)
    passages = gaussian(1, 16).expand(30_000, 16)
    hits = rank(gaussian(50, 16, seed=1), passages, k=4, similarity="euclidean", path=path)
    np.testing.assert_array_equal(hits.rows, np.tile([0, 1, 2, 3], (50, 1)))
    pieces = 2
    assert 0 < sum(scored) <= pieces * 50 * 4


def test_passages_that_differ_in_their_last_digits_only_are_not_taken_for_copies():
    tiny = torch.tensor([4e-10, 3e-10, 2e-10, 1e-10], dtype=torch.float64)
    passages = torch.stack([torch.full_like(tiny, 1e10), tiny], dim=1)
    query = torch.tensor([[1e10, 0.0]], dtype=torch.float64)
    assert rank(query, passages, k=2, similarity="euclidean").rows.tolist() == [[3, 2]]


def test_parallel_passages_are_not_taken_for_copies():
    passages = torch.cat([torch.tensor([[3.0, 1.0]]).expand(5, 2), torch.tensor([[0.3, 0.1]])])
    expected = brute_force(passages[:1], passages, k=2, similarity="cosine")
    assert_same(rank(passages[:1], passages, k=2, similarity="cosine"), expected)


def test_chunks_may_come_in_any_order():
    queries, passages = gaussian(3, 4).round(), gaussian(60, 4, seed=1).round()
    top = ExactTopK(queries, k=12, similarity="dot")
    for first in (40, 0, 20):
        top.add(passages[first : first + 20], first_row=first)
    assert_same(top.hits(), brute_force(queries, passages, k=12, similarity="dot"))


def test_a_corpus_smaller_than_k_gives_one_column_a_passage():
    top = ExactTopK(gaussian(1, 3), k=10, similarity="euclidean")
    assert top.hits().rows.shape == top.hits().scores.shape == (1, 0)
    top.add(gaussian(0, 3), first_row=0)
    top.add(gaussian(1, 3), first_row=0)
    assert top.hits().rows.tolist() == [[0]]
    assert top.hits().scores.tolist() == [[0.0]]
    assert not np.signbit(top.hits().scores).any()


def test_half_precision_embeddings_are_widened_before_anything_is_computed():
    queries, passages = gaussian(4, 32).bfloat16(), gaussian(100, 32, seed=1).bfloat16()
    expected = brute_force(queries, passages, k=9, similarity="euclidean")
    assert_same(rank(queries, passages, k=9, similarity="euclidean"), expected)


@pytest.fixture
def reduced_precision():
    """A process in which training has allowed TF32 and bfloat16 products."""
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [backend.fp32_precision for backend in backends]
    for backend, precision in zip(backends, ("tf32", "bf16"), strict=True):
        backend.fp32_precision = precision
    yield lambda: [backend.fp32_precision for backend in backends]
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision


def test_neither_autocast_nor_gradients_nor_reduced_precision_reach_the_products(
    reduced_precision, monkeypatch
):
    queries, passages = gaussian(30, 128), gaussian(500, 128, seed=1).requires_grad_()
    products, addmm = [], torch.addmm

    def spy(*factors):
        products.append((addmm(*factors), reduced_precision()))
        return products[-1][0].clone()

    monkeypatch.setattr(torch, "addmm", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hits = rank(queries, passages, k=9, similarity="euclidean", path=TorchTopK)
    ((product, precisions),) = products
    assert product.dtype == torch.float32
    assert not product.requires_grad
    assert precisions == ["ieee", "ieee"]
    assert reduced_precision() == ["tf32", "bf16"]
    assert_same(hits, brute_force(queries, passages.detach(), k=9, similarity="euclidean"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_bytes(rank(queries, passages, k=9, similarity="euclidean"), hits)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_embeddings_that_are_not_usable_numbers_are_refused_with_their_rows(bad):
    passages = gaussian(40, 4)
    passages[[7, 31], 2] = bad
    top = ExactTopK(gaussian(2, 4), k=3, similarity="euclidean")
    with pytest.raises(ValueError, match=r"2 passage embeddings .*first rows: \[107, 131\]"):
        top.add(passages, first_row=100)
    with pytest.raises(ValueError, match=r"2 query embeddings .*first rows: \[7, 31\]"):
        ExactTopK(passages, k=3, similarity="dot")


def test_a_row_without_direction_is_refused_under_cosine_only():
    queries, passages = gaussian(2, 4), torch.cat([gaussian(3, 4), torch.zeros(1, 4)])
    assert rank(queries, passages, k=9, similarity="dot").rows.shape == (2, 4)
    assert rank(passages, queries, k=9, similarity="dot").scores[3].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"of length 0; first rows: \[3\]"):
        rank(queries, passages, k=9, similarity="cosine")


def test_arguments_that_mean_nothing_are_refused():
    queries = gaussian(2, 4)
    top = ExactTopK(queries, k=1, similarity="dot")
    for call in (
        lambda: ExactTopK(queries, k=0, similarity="dot"),
        lambda: ExactTopK(queries, k=1, similarity="l2"),
        lambda: ExactTopK(queries[:0], k=1, similarity="dot"),
        lambda: ExactTopK(queries[0], k=1, similarity="dot"),
        lambda: ExactTopK(queries.long(), k=1, similarity="dot"),
        lambda: top.add(queries[:, :3], first_row=0),
        lambda: top.add(queries, first_row=-1),
    ):
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            call()
