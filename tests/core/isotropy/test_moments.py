import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from ragcun_cli.core.isotropy.embedding_pass import EmbeddingPass, Reservoir
from ragcun_cli.core.isotropy.moments import BLOCKS, BlockedMoments, Moments, merged


def rows_of(count, dimensions=7, *, seed=0, offset=0.3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dimensions)) / np.arange(1, dimensions + 1) + offset


def assert_same(one, other, *, rel=1e-10):
    for name, value in dataclasses.asdict(one).items():
        scale = np.abs(value).max()
        assert np.allclose(getattr(other, name), value, rtol=rel, atol=rel * scale), name


def test_moments_are_those_of_their_definition():
    rows = rows_of(50)
    lengths = np.linalg.norm(rows, axis=1)
    moments = Moments.of(rows)
    assert moments.count == 50
    assert np.allclose(moments.mean, rows.mean(0))
    assert np.allclose(moments.scatter, 49 * np.cov(rows.T))
    assert np.allclose(moments.unit_total, (rows / lengths[:, None]).sum(0))
    assert moments.length_mean == pytest.approx(lengths.mean())
    assert moments.length_scatter == pytest.approx(50 * lengths.var())
    assert moments.mean_square == pytest.approx((lengths**2).mean())


@pytest.mark.parametrize("chunk", [1, 3, 64, 1000])
def test_streaming_gives_what_one_matrix_gives(chunk):
    rows = rows_of(500, offset=1000.0)
    seen = BlockedMoments()
    for start in range(0, 500, chunk):
        seen.add(rows[start : start + chunk], first_row=start)
    assert_same(Moments.of(rows), seen.total())


def test_a_stream_of_several_pieces_gives_what_one_matrix_gives():
    rows = rows_of(50_000, 5).astype(np.float32)
    seen = BlockedMoments()
    seen.add(rows, first_row=0)
    wide = rows.astype(np.float64)
    assert np.allclose(seen.total().scatter, 49_999 * np.cov(wide.T), rtol=1e-10)
    assert_same(Moments.of(rows), seen.total())


def test_chunks_in_any_order_give_the_same_blocks():
    rows = rows_of(333)
    whole, parts = BlockedMoments(), BlockedMoments()
    whole.add(rows, first_row=0)
    for start, end in ((290, 333), (100, 143), (0, 43), (143, 290), (43, 100)):
        parts.add(rows[start:end], first_row=start)
    assert len(whole.blocks) == BLOCKS
    for one, other in zip(whole.blocks, parts.blocks, strict=True):
        assert_same(one, other)


def test_a_block_is_every_twentieth_row():
    rows = rows_of(130)
    seen = BlockedMoments()
    seen.add(rows[:77], first_row=0)
    seen.add(rows[77:], first_row=77)
    for number, block in enumerate(seen.blocks):
        assert_same(Moments.of(rows[number::BLOCKS]), block)
    assert {block.count for block in seen.blocks} == {6, 7}


def test_a_mean_far_from_zero_costs_no_digits():
    near = rows_of(1000, offset=0.0)
    far = near + 1e6
    exact = far - 1e6  # what is left of the rows at that distance
    seen = BlockedMoments()
    for start in range(0, 1000, 90):
        seen.add(far[start : start + 90], first_row=start)
    assert np.allclose(seen.total().scatter, 999 * np.cov(exact.T), rtol=1e-8, atol=1e-8)


def test_merging_is_associative_up_to_rounding():
    parts = [Moments.of(rows_of(9, seed=seed)) for seed in range(3)]
    left = parts[0].merge(parts[1]).merge(parts[2])
    assert_same(left, parts[0].merge(parts[1].merge(parts[2])))
    assert_same(left, merged(parts[::-1]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_rows_that_cannot_be_measured_are_named_by_their_number(bad):
    rows = rows_of(30)
    rows[[3, 11]] = bad
    with pytest.raises(ValueError, match=r"2 embeddings .*first rows: \[103, 111\]"):
        BlockedMoments().add(rows, first_row=100)


def test_nothing_added_cannot_be_measured():
    with pytest.raises(ValueError, match="no embeddings to measure"):
        BlockedMoments().total()
    with pytest.raises(ValueError, match="no embeddings to sample"):
        Reservoir().rows()
    with pytest.raises(ValueError, match="are no matrix"):
        Moments.of(np.ones(3))


def test_a_reservoir_keeps_the_smallest_keys_in_their_order():
    keys = np.random.default_rng(1).permutation(1000).astype(np.uint64)
    rows = rows_of(1000)
    kept = Reservoir(50)
    for start in range(0, 1000, 37):
        kept.add(rows[start : start + 37], keys[start : start + 37])
    assert np.array_equal(kept.rows(), rows[np.argsort(keys)[:50]])


def test_neither_order_nor_chunks_move_a_reservoir():
    keys = np.random.default_rng(1).permutation(1000).astype(np.uint64)
    rows = rows_of(1000)
    whole, parts = Reservoir(60), Reservoir(60)
    whole.add(rows, keys)
    for start, end in pairwise(range(1000, -1, -100)):
        parts.add(rows[end:start], keys[end:start])
    assert np.array_equal(whole.rows(), parts.rows())


def test_a_small_reservoir_keeps_everything():
    kept = Reservoir(10)
    kept.add(rows_of(4), np.array([3, 1, 2, 0], np.uint64))
    assert np.array_equal(kept.rows(), rows_of(4)[[3, 1, 2, 0]])


def test_a_pass_is_the_same_in_chunks_of_any_order():
    rows, keys = rows_of(200), np.random.default_rng(2).permutation(200).astype(np.uint64)
    whole, parts = EmbeddingPass(), EmbeddingPass()
    whole.add(rows, first_row=0, keys=keys)
    parts.add(rows[120:], first_row=120, keys=keys[120:])
    parts.add(rows[:120], first_row=0, keys=keys[:120])
    assert_same(whole.moments.total(), parts.moments.total())
    assert np.array_equal(whole.reservoir.rows(), rows[np.argsort(keys)])
    assert np.array_equal(whole.reservoir.rows(), parts.reservoir.rows())
