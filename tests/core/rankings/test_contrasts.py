"""Contrasts against the tests that they are where seeds or sets are single, and against loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ragcun_cli.core.rankings.contrasts import contrast, holm


def scores(seeds, queries, *, seed=0, of_seed=0.01, of_query=0.2, of_pair=0.1, mean=0.02):
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(seeds, 1)) * of_seed + rng.normal(size=(1, queries)) * of_query
    return mean + own + rng.normal(size=(seeds, queries)) * of_pair


def test_one_seed_and_one_set_are_the_paired_t_test():
    values = scores(1, 80)
    found = contrast({"a": values}, {"a": 1.0})
    theirs = stats.ttest_1samp(values[0], 0)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert found.df == pytest.approx(79)
    assert found.interval() == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert (found.seeds, found.deviation, found.seeds_share) == (1, None, 0)


def test_one_seed_and_two_sets_are_welchs_test():
    one, other = scores(1, 40)[0], scores(1, 90, seed=1, of_query=0.05)[0]
    found = contrast({"a": one, "b": -other}, {"a": 1.0, "b": 1.0})
    theirs = stats.ttest_ind(one, other, equal_var=False)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert found.df == pytest.approx(theirs.df)
    ends = np.array(theirs.confidence_interval(0.95)) / 2
    assert found.interval() == pytest.approx(tuple(ends))


def by_loops(differences, weights):
    """V and its degrees of freedom, term by term as the formula is written."""
    seeds = len(next(iter(differences.values())))
    total = sum(weights.values())
    of_seed = [
        sum(weights[k] / total * sum(d[s]) / len(d[s]) for k, d in differences.items())
        for s in range(seeds)
    ]
    centre = sum(of_seed) / seeds
    a = sum((value - centre) ** 2 for value in of_seed) / (seeds - 1) / seeds
    b, e, below_b, below_e = 0.0, 0.0, 0.0, 0.0
    for name, d in differences.items():
        w, n = weights[name] / total, len(d[0])
        of_query = [sum(d[s][q] for s in range(seeds)) / seeds for q in range(n)]
        rows = [sum(d[s]) / n for s in range(seeds)]
        grand = sum(rows) / seeds
        s2 = sum((value - grand) ** 2 for value in of_query) / (n - 1)
        squares = sum(
            (d[s][q] - of_query[q] - rows[s] + grand) ** 2 for s in range(seeds) for q in range(n)
        )
        mean_square = squares / ((seeds - 1) * (n - 1))
        b += w**2 * s2 / n
        e += w**2 * mean_square / (seeds * n)
        below_b += (w**2 * s2 / n) ** 2 / (n - 1)
        below_e += (w**2 * mean_square / (seeds * n)) ** 2 / ((seeds - 1) * (n - 1))
    if a - e < 0:
        return b, b**2 / below_b, centre, 0.0
    v = a + b - e
    df = v**2 / (a**2 / (seeds - 1) + below_b + below_e)
    smallest = min(seeds, *(len(d[0]) for d in differences.values())) - 1
    return v, max(df, smallest), centre, (a - e) / v


@pytest.mark.parametrize("of_seed", [0.0, 0.005, 0.1])
def test_several_seeds_and_sets_are_the_formula(of_seed):
    for seed in range(20):
        differences = {
            "a": scores(4, 30, seed=seed, of_seed=of_seed),
            "b": scores(4, 200, seed=seed + 100, of_seed=of_seed, of_query=0.03),
            "c": scores(4, 2, seed=seed + 200, of_seed=of_seed),
        }
        weights = {"a": 1.0, "b": 1.0, "c": 0.5}
        found = contrast(differences, weights)
        variance, df, mean, share = by_loops(differences, weights)
        assert found.variance == pytest.approx(variance)
        assert found.df == pytest.approx(df)
        assert found.mean == pytest.approx(mean)
        assert found.seeds_share == pytest.approx(share)
        low, high = stats.t.interval(0.95, df, mean, math.sqrt(variance))
        assert found.interval() == pytest.approx((low, high))
        assert found.deviation == pytest.approx(stats.tstd(found.by_seed))


def test_seeds_that_are_all_alike_leave_the_queries_interval():
    """As between two references, neither of which has seeds."""
    row = scores(1, 50)
    found, one = (contrast({"a": rows}, {"a": 1.0}) for rows in (np.repeat(row, 3, 0), row))
    assert found.variance == pytest.approx(one.variance)
    assert found.df == pytest.approx(one.df)
    assert found.seeds_share == pytest.approx(0)


@given(st.integers(1, 5), st.integers(2, 40), st.integers(0, 10**6), st.floats(-0.1, 0.1))
def test_p_is_below_5_percent_where_0_is_outside_of_the_interval(seeds, queries, seed, mean):
    found = contrast({"a": scores(seeds, queries, seed=seed, mean=mean)}, {"a": 1.0})
    low, high = found.interval()
    if abs(found.p_value - 0.05) > 1e-9:
        assert (found.p_value < 0.05) == (low > 0 or high < 0)
    assert found.is_within(max(map(abs, found.interval(0.9))) + 1e-12)
    assert not found.is_within(max(map(abs, found.interval(0.9))) - 1e-12)
    assert found.detectable > found.half_width()


CLINIC = np.array(
    [
        *((2.84, 4.00), (2.51, 3.26), (2.41, 4.14), (2.95, 3.42), (3.14, 3.25), (3.79, 4.34)),
        *((4.14, 4.97), (3.85, 4.31), (3.02, 3.11), (3.45, 3.41), (5.37, 5.02), (3.81, 4.21)),
        *((4.19, 4.59), (3.16, 5.30), (3.84, 4.32), (2.60, 3.76), (2.82, 3.66), (2.18, 3.65)),
        *((3.46, 3.60), (4.01, 3.48), (3.04, 2.87), (3.47, 3.24), (4.06, 3.92), (2.91, 3.99)),
        *((3.59, 4.21), (4.51, 4.21), (3.16, 3.31), (3.86, 3.61), (3.31, 2.97), (3.02, 2.73)),
    ]
).T
"""Two measures of the body in two groups of 15 patients: `clinic` of R's package MultEq."""


@pytest.mark.parametrize(
    ("measure", "paired", "df", "ends", "p_value"),
    [
        (0, True, 14, (-0.0744336620516462, 0.4037669953849797), 0.003166881489265175),
        (1, True, 14, (0.1261653305099018, 0.999168002823431), 0.4412034046017588),
        (0, False, 26.7484787582315, (-0.2666862980722534, 0.596019631405587), 0.04853083976236974),
        (1, False, 24.11000151062728, (0.194916250699966, 0.930417082633366), 0.4317936812594803),
    ],
)
def test_equivalence_within_0_6_in_a_clinical_study(measure, paired, df, ends, p_value):
    """R's ``equivalence::tost(x, y, eps=0.6)``, results as statsmodels keeps them
    (stats/tests/test_tost.py). Two sets of equal weight halve a difference between samples.
    """
    one, other = CLINIC[measure][:15], CLINIC[measure][15:]
    sets = {"a": one - other} if paired else {"a": 2 * one, "b": -2 * other}
    found = contrast(sets, dict.fromkeys(sets, 1.0))
    assert found.df == pytest.approx(df)
    assert found.interval(0.9) == pytest.approx(ends)
    assert larger_p_value(found, 0.6) == pytest.approx(p_value)
    assert found.is_within(0.6) == (p_value < 0.05)


def larger_p_value(found, margin):
    """Of two one-sided tests."""
    return stats.t.sf((margin - abs(found.mean)) / math.sqrt(found.variance), found.df)


def sample(mean, deviation, count):
    """Numbers of just this mean and deviation."""
    return mean + deviation * stats.zscore(np.arange(count), ddof=1)


def test_equivalence_of_samples_given_by_their_moments():
    """Lakens 2017: the examples of his package TOSTER for pairs, ``TOSTpaired``, and for Welch's
    test, ``TOSTtwo.raw``, with the results of its tests (tests/testthat/test-known_results.R).
    """
    deviation = math.sqrt(1.17**2 + 1.29**2 - 2 * 0.75 * 1.17 * 1.29)
    found = contrast({"a": sample(5.83 - 5.75, deviation, 65)}, {"a": 1.0})
    assert found.interval(0.9) == pytest.approx((-0.1015433, 0.2615433), rel=1e-6)
    assert found.interval() == pytest.approx((-0.1372988, 0.2972988), rel=1e-6)
    assert larger_p_value(found, 0.350782) == pytest.approx(0.00770235, rel=1e-4)
    assert found.is_within(0.350782)
    two = {"a": 2 * sample(5.25, 0.95, 95), "b": -2 * sample(5.22, 0.83, 89)}
    found = contrast(two, {"a": 1.0, "b": 1.0})
    assert found.df == pytest.approx(181.1344)
    assert found.interval(0.9) == pytest.approx((-0.1870843, 0.2470843), rel=1e-6)
    assert larger_p_value(found, 0.384) == pytest.approx(0.003838994, rel=1e-4)
    assert found.is_within(0.384)
    assert not found.is_within(0.2)


def test_what_does_not_vary_is_certain():
    same = contrast({"a": np.zeros((3, 10))}, {"a": 1.0})
    assert (same.p_value, same.interval(), same.detectable) == (1.0, (0.0, 0.0), 0.0)
    assert same.is_within(1e-9)
    more = contrast({"a": np.full((3, 10), 0.25)}, {"a": 1.0})
    assert (more.p_value, more.interval()) == (0.0, (0.25, 0.25))


def test_neither_the_order_of_sets_nor_the_size_of_weights_matters():
    one, other = scores(3, 20), scores(3, 30, seed=1)
    first = contrast({"a": one, "b": other}, {"a": 2.0, "b": 1.0})
    assert contrast({"b": other, "a": one}, {"a": 4.0, "b": 2.0}) == first


def test_few_of_a_hundred_null_experiments_are_significant():
    """5 seeds that deviate by half a point: at most 7 % of p-values are below 5 %."""
    found = []
    for seed in range(5000):
        values = scores(5, 300, seed=seed, of_seed=0.005, of_query=0.1, of_pair=0.15, mean=0)
        found.append(contrast({"a": values}, {"a": 1.0}).p_value)
    assert 0.03 < np.mean(np.array(found) < 0.05) <= 0.07


@pytest.mark.parametrize(
    ("differences", "weights", "said"),
    [
        ({}, {}, "no sets"),
        ({"a": [[1.0]]}, {"a": 1.0}, "fewer than two queries"),
        ({"a": [[1.0, 2.0]], "b": [[1.0, 2.0]] * 2}, {"a": 1.0, "b": 1.0}, "unequal numbers"),
        ({"a": [[1.0, math.nan]]}, {"a": 1.0}, "not a finite number"),
        ({"a": [[1.0, 2.0]]}, {"a": 0.0}, "not above 0"),
    ],
)
def test_what_is_no_contrast_is_refused(differences, weights, said):
    with pytest.raises(ValueError, match=said):
        contrast({name: np.array(rows) for name, rows in differences.items()}, weights)


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_procedure_rejects(p_values, level):
    adjusted = holm(p_values)
    rejected = set()
    for number, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        if p_value * (len(p_values) - number) > level:
            break
        rejected.add(name)
    assert {name for name in adjusted if adjusted[name] <= level} == rejected
    assert all(adjusted[name] >= p_values[name] for name in p_values)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.5, 0.003, 0.32, 0.054, 0.0003], [0.64, 0.012, 0.64, 0.162, 0.0015]),
        (
            [
                *(0.28282, 0.30688, 0.71022, 0.77175, 0.78180, 0.88581, 0.54685, 0.84978, 0.24228),
                *(0.58977, 0.03498, 0.41607, 0.31631, 0.05254, 0.45061, 0.75758, 0.12496, 0.49485),
                *(0.21572, 0.50505, 0.94372, 0.81260, 0.77596, 0.36889),
            ],
            [*[1.0] * 10, 0.8395, *[1.0] * 13],
        ),
    ],
    ids=["pingouin", "SAS"],
)
def test_holms_adjusted_p_values_as_others_print_them(p_values, expected):
    """The documentation of ``pingouin.holm``; the example "Inputting Raw p-Values" of SAS/STAT's
    MULTTEST procedure (column Stepdown Bonferroni).
    """
    adjusted = holm({str(place): p_value for place, p_value in enumerate(p_values)})
    assert list(adjusted.values()) == pytest.approx(expected, abs=5e-5)


def test_holm_stops_at_the_first_that_is_too_large():
    """The table of SISA's page on Bonferroni and Holm: at 5 % the first three of seven are
    significant, and not the fifth, which lies below its own limit of .05 / 3.
    """
    p_values = [0.00001, 0.00099, 0.003, 0.0145, 0.016, 0.06, 0.13]
    adjusted = holm({str(place): p_value for place, p_value in enumerate(p_values)})
    assert [name for name, p_value in adjusted.items() if p_value <= 0.05] == ["0", "1", "2"]


def test_parts_that_are_equal_but_for_rounding_have_the_fewer_degrees_of_freedom():
    """One query differs, in one of three seeds: between seeds, queries and pairs all the same."""
    for size in (0.1, 0.3, 1 / 3, 0.7):
        rows = np.zeros((3, 80))
        rows[1, 4] = -size
        found = contrast({"a": rows}, {"a": 1.0})
        assert found.df == pytest.approx(2, rel=0.2)
