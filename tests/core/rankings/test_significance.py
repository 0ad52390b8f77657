import itertools

import numpy as np
import pytest
from scipy import stats

from ragcun_cli.core.rankings.significance import Interval, paired_interval, randomisation_p_value


def skewed(size, *, seed=0, mean=0.0):
    return np.random.default_rng(seed).exponential(size=size) - 1 + mean


def test_one_group_agrees_with_scipys_percentile_bootstrap():
    values = skewed(60, mean=0.3)
    interval = paired_interval({"set": values}, seed=1, resamples=20_000, level=0.9)
    reference = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, confidence_level=0.9, rng=2
    ).confidence_interval
    # An end of 20,000 resamples has a standard error of 0.015 standard errors of the mean.
    error = 5 * 2**0.5 * 0.015 * values.std() / 60**0.5
    assert interval.difference == pytest.approx(values.mean())
    assert interval.low == pytest.approx(reference.low, abs=error)
    assert interval.high == pytest.approx(reference.high, abs=error)
    assert interval.level == 0.9


def test_about_95_of_100_intervals_contain_the_truth():
    rng = np.random.default_rng(0)
    truth, contained = (0.1 + 0.0 - 0.4) / 3, 0
    for seed in range(400):
        groups = {
            "large": rng.normal(0.1, 0.2, 200),
            "middle": rng.normal(0.0, 0.5, 60),
            "skewed": rng.exponential(size=60) - 1.4,
        }
        interval = paired_interval(groups, seed=seed, resamples=400)
        contained += interval.low <= truth <= interval.high
    assert 0.91 < contained / 400 < 0.98


def test_groups_weigh_the_same_whatever_their_number_of_queries():
    small = skewed(10, mean=1.0)
    alone = paired_interval({"small": small}, seed=3)
    beside = paired_interval({"small": small, "large": np.zeros(5000)}, seed=3)
    for end in ("difference", "low", "high"):
        assert getattr(beside, end) == pytest.approx(getattr(alone, end) / 2)


def test_queries_are_resampled_within_their_group():
    groups = {"up": [1.0] * 30, "down": [-1.0] * 3}
    assert paired_interval(groups, seed=0) == Interval(difference=0, low=0, high=0, level=0.95)


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3])
def test_equal_differences_leave_no_width(value):
    interval = paired_interval({"a": [value] * 7, "b": [value] * 1000}, seed=0, resamples=50)
    assert interval.difference == pytest.approx(value, abs=1e-15)
    assert interval.low == pytest.approx(value, abs=1e-15)
    assert interval.high == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("measure", [paired_interval, randomisation_p_value])
def test_only_the_seed_moves_the_result(measure):
    groups = {"a": skewed(30), "b": skewed(80, seed=1, mean=0.1)}
    shuffled = {
        "b": groups["b"][::-1].tolist(),
        "a": np.random.default_rng(0).permutation(groups["a"]),
    }
    assert measure(groups, seed=5) == measure(groups, seed=5) == measure(shuffled, seed=5)
    assert measure(groups, seed=5) != measure(groups, seed=6)


def test_exchanging_the_systems_mirrors_the_interval_and_keeps_the_p_value():
    groups = {"a": skewed(50, mean=0.2), "b": skewed(90, seed=1, mean=0.1)}
    mirrored = {name: -values for name, values in groups.items()}
    one, other = (paired_interval(g, seed=0, resamples=40_000) for g in (groups, mirrored))
    assert one.difference == -other.difference
    width = one.high - one.low
    assert one.low == pytest.approx(-other.high, abs=0.02 * width)
    assert one.high == pytest.approx(-other.low, abs=0.02 * width)
    p_values = [randomisation_p_value(g, seed=0) for g in (groups, mirrored)]
    assert p_values[0] == pytest.approx(p_values[1], abs=0.02)


def test_a_higher_level_gives_a_wider_interval_around_the_difference():
    intervals = [paired_interval({"a": skewed(40)}, seed=0, level=at) for at in (0.5, 0.9, 0.99)]
    lows, highs = [i.low for i in intervals], [i.high for i in intervals]
    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)
    assert all(i.low < i.difference < i.high for i in intervals)


def test_the_p_value_is_the_share_of_sign_patterns_at_least_as_far_from_zero():
    groups = {"a": [0.5, 1.0, -0.25], "b": [1.5, 0.3, 0.3, -0.1]}
    count, observed = 0, sum(np.mean(values) for values in groups.values())
    for signs in itertools.product([-1, 1], repeat=7):
        value = np.mean(signs[:3] * np.array(groups["a"])) + np.mean(
            signs[3:] * np.array(groups["b"])
        )
        count += abs(value) >= observed - 1e-12
    assert 0.05 < count / 128 < 0.5
    p_value = randomisation_p_value(groups, seed=0, rounds=40_000)
    assert p_value == pytest.approx(count / 128, abs=0.01)


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(1)
    p_values = [
        randomisation_p_value(
            {"a": rng.normal(size=20), "b": rng.standard_t(3, size=35)}, seed=seed, rounds=199
        )
        for seed in range(500)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


def test_p_values_keep_within_their_ends():
    assert randomisation_p_value({"a": [0.0] * 9}, seed=0) == 1.0
    assert randomisation_p_value({"a": [0.1]}, seed=0) == 1.0
    assert randomisation_p_value({"a": [0.1] * 100}, seed=0, rounds=999) == 0.001


def test_blocks_of_draws_cover_every_resample():
    groups = {"a": skewed(13_000, mean=0.02)}
    interval = paired_interval(groups, seed=0, resamples=301)
    error = groups["a"].std() / 13_000**0.5
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert randomisation_p_value(groups, seed=0, rounds=301) == pytest.approx(
        2 * stats.norm.sf(abs(interval.difference) / error), abs=0.1
    )


@pytest.mark.parametrize("measure", [paired_interval, randomisation_p_value])
@pytest.mark.parametrize(
    ("groups", "message"),
    [({}, "no groups"), ({"a": []}, "'a' has no"), ({"a": [1, np.nan]}, "'a' has a difference")],
)
def test_differences_that_mean_nothing_are_refused(measure, groups, message):
    with pytest.raises(ValueError, match=message):
        measure(groups, seed=0)


def test_counts_and_levels_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="level is 95"):
        paired_interval({"a": [1.0]}, seed=0, level=95)
    with pytest.raises(ValueError, match="0 rounds"):
        paired_interval({"a": [1.0]}, seed=0, resamples=0)
    with pytest.raises(ValueError, match="0 rounds"):
        randomisation_p_value({"a": [1.0]}, seed=0, rounds=0)


PARTS = {"scifact": [0.1, -0.2, 0.3, 0.4], "forums/tex": [0.5, 0.1], "forums/gis": [-0.3, 0.2, 0.0]}
NESTED = {"scifact": 1.0, "forums/tex": 0.5, "forums/gis": 0.5}


def test_parts_of_a_set_share_its_weight():
    interval = paired_interval(PARTS, weights=NESTED, seed=1)
    assert interval.difference == pytest.approx((0.15 + (0.3 - 0.1 / 3) / 2) / 2)


@pytest.mark.parametrize("measure", [paired_interval, randomisation_p_value])
def test_weights_are_what_scaled_differences_are_without_them(measure):
    total = sum(NESTED.values())
    scaled = {
        name: [value * NESTED[name] / total * len(PARTS) for value in values]
        for name, values in PARTS.items()
    }
    weighed, plain = measure(PARTS, weights=NESTED, seed=1), measure(scaled, seed=1)
    if measure is paired_interval:
        assert (weighed.low, weighed.high) == pytest.approx((plain.low, plain.high))
    else:
        assert weighed == plain < 1


def test_equal_weights_change_nothing():
    same = paired_interval(PARTS, weights=dict.fromkeys(PARTS, 7.0), seed=1)
    plain = paired_interval(PARTS, seed=1)
    assert (same.difference, same.low, same.high) == pytest.approx(
        (plain.difference, plain.low, plain.high)
    )


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="weights have to be above 0"):
        paired_interval(PARTS, weights=NESTED | {"scifact": weight}, seed=1)
