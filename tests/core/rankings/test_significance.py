import itertools

import numpy as np
import pytest
from scipy import stats

from ragcun_cli.core.rankings.significance import randomisation_p_value


def skewed(size, *, seed=0, mean=0.0):
    return np.random.default_rng(seed).exponential(size=size) - 1 + mean


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
        for seed in range(2000)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.08


def test_p_values_keep_within_their_ends():
    assert randomisation_p_value({"a": [0.0] * 9}, seed=0) == 1.0
    assert randomisation_p_value({"a": [0.1]}, seed=0) == 1.0
    assert randomisation_p_value({"a": [0.1] * 100}, seed=0, rounds=999) == 0.001


PARTS = {"scifact": [0.1, -0.2, 0.3, 0.4], "forums/tex": [0.5, 0.1], "forums/gis": [-0.3, 0.2, 0.0]}
NESTED = {"scifact": 1.0, "forums/tex": 0.5, "forums/gis": 0.5}


def test_only_the_seed_moves_the_p_value():
    groups = {"a": skewed(30), "b": skewed(80, seed=1, mean=0.1)}
    shuffled = {
        "b": groups["b"][::-1].tolist(),
        "a": np.random.default_rng(0).permutation(groups["a"]),
    }
    first = randomisation_p_value(groups, seed=5)
    assert first == randomisation_p_value(shuffled, seed=5)
    assert first != randomisation_p_value(groups, seed=6)


def test_exchanging_the_systems_keeps_the_p_value():
    groups = {"a": skewed(50, mean=0.2), "b": skewed(90, seed=1, mean=0.1)}
    mirrored = {name: -values for name, values in groups.items()}
    one, other = (randomisation_p_value(each, seed=0) for each in (groups, mirrored))
    assert one == pytest.approx(other, abs=0.02)


def test_blocks_of_draws_cover_every_round():
    values = skewed(13_000, mean=0.02)
    expected = 2 * stats.norm.sf(abs(values.mean()) / (values.std() / 13_000**0.5))
    assert randomisation_p_value({"a": values}, seed=0, rounds=301) == pytest.approx(
        expected, abs=0.1
    )


@pytest.mark.parametrize(
    ("groups", "message"),
    [({}, "no groups"), ({"a": []}, "'a' has no"), ({"a": [1, np.nan]}, "'a' has a difference")],
)
def test_differences_that_mean_nothing_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        randomisation_p_value(groups, seed=0)


def test_a_number_of_rounds_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="0 rounds"):
        randomisation_p_value({"a": [1.0]}, seed=0, rounds=0)


def test_it_agrees_with_scipys_permutation_test():
    values = skewed(40, mean=0.3)
    theirs = stats.permutation_test(
        (values, np.zeros(40)),
        lambda one, other, axis: (one - other).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=40_000,
        rng=1,
    )
    ours = randomisation_p_value({"a": values}, seed=0, rounds=40_000)
    assert ours == pytest.approx(theirs.pvalue, abs=0.01)


def test_weights_are_what_scaled_differences_are_without_them():
    total = sum(NESTED.values())
    scaled = {
        name: [value * NESTED[name] / total * len(PARTS) for value in values]
        for name, values in PARTS.items()
    }
    weighed = randomisation_p_value(PARTS, weights=NESTED, seed=1)
    assert weighed == randomisation_p_value(scaled, seed=1) < 1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="weights have to be above 0"):
        randomisation_p_value(PARTS, weights=NESTED | {"scifact": weight}, seed=1)
