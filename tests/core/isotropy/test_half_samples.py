import numpy as np
import pytest

from ragcun_cli.core.isotropy.half_samples import (
    balanced_splits,
    curve,
    half_differences,
    half_width,
)
from ragcun_cli.core.isotropy.moments import BlockedMoments
from ragcun_cli.core.isotropy.spectrum import measure_isotropy, plan_score_of_gaussian


def blocks_of(rows):
    seen = BlockedMoments()
    seen.add(rows, first_row=0)
    return seen.blocks


def test_splits_halve_the_blocks_and_are_orthogonal():
    splits = balanced_splits().astype(int)
    assert splits.shape == (19, 20)
    assert not splits.sum(1).any()
    assert np.array_equal(splits @ splits.T, 20 * np.eye(19))


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    rows = np.abs(np.random.default_rng(0).normal(size=(600, 4))) + 1
    blocks = blocks_of(rows)
    differences = half_differences(blocks)["norm_mean"]
    means = [block.length_mean for block in blocks]
    error = np.std(means, ddof=1) / np.sqrt(20)
    assert np.sqrt(np.mean(differences**2)) == pytest.approx(error)
    assert half_width(differences) == pytest.approx(2.093024 * error)


@pytest.mark.parametrize("name", ["participation_ratio", "mean_cosine", "effective_rank"])
def test_intervals_hold_what_other_texts_would_give(name):
    """Of 200 samples about 95 % hold the mean over all samples in their interval."""
    scales = np.array([3.0, 2.0, 1.5, 1.0, 0.5])
    rng = np.random.default_rng(3)
    values, widths = [], []
    for _ in range(200):
        rows = rng.normal(size=(400, 5)) * scales + 0.5
        values.append(getattr(measure_isotropy(rows), name))
        widths.append(half_width(half_differences(blocks_of(rows))[name]))
    inside = np.abs(np.array(values) - np.mean(values)) <= widths
    assert 0.91 <= inside.mean() <= 0.99


def test_what_two_models_share_cancels_in_their_difference():
    rows = np.random.default_rng(1).normal(size=(400, 6)) * [3, 2, 1, 1, 1, 1]
    one = half_differences(blocks_of(rows))["plan_score"]
    other = half_differences(blocks_of(7 * rows[:, ::-1]))["plan_score"]
    assert half_width(one) > 0.01
    assert half_width(one - other) == pytest.approx(0, abs=1e-12)


def test_too_few_texts_have_no_interval():
    rows = np.random.default_rng(1).normal(size=(39, 6))
    assert half_differences(blocks_of(rows)) is None
    assert half_differences(blocks_of(rows[:12])) is None
    assert half_differences(blocks_of(np.vstack([rows, rows[:1]]))) is not None


def test_the_curve_ends_at_all_texts_and_grows_by_a_twentieth():
    rows = np.random.default_rng(2).normal(size=(2000, 30))
    points = curve(blocks_of(rows))
    assert [point.texts for point in points] == list(range(100, 2001, 100))
    assert points[-1].plan_score == pytest.approx(measure_isotropy(rows).plan_score)
    some = np.vstack([rows[block::20] for block in range(7)])
    assert points[6].effective_rank == pytest.approx(measure_isotropy(some).effective_rank)
    scores = [point.plan_score for point in points]
    expected = [plan_score_of_gaussian(point.texts, dimensions=30) for point in points]
    assert scores == pytest.approx(expected, abs=0.05)


def test_the_curve_of_few_texts_begins_with_three():
    rows = np.random.default_rng(2).normal(size=(25, 3))
    texts = [point.texts for point in curve(blocks_of(rows))]
    assert texts[0] >= 3
    assert texts[-1] == 25
