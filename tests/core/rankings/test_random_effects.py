"""Random effects against published examples, the covariance matrix of their model, and draws."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ragcun_cli.core.rankings.random_effects import RandomEffects, hartung_knapp, random_effects

BCG = [
    *((4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619)),
    *((33, 5036, 47, 5761), (180, 1361, 372, 1079), (8, 2537, 10, 619)),
    *((505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600)),
    *((186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)),
]
"""Ill and well, vaccinated and not, of 13 trials: Colditz et al. 1994, `dat.bcg` of metafor."""

KACKER = [61.0, 61.4, 62.21, 62.3, 62.34, 62.6, 62.7, 62.84, 65.9]
KACKER_VARIANCES = [0.2025, 1.21, 0.09, 0.2025, 0.3844, 0.5625, 0.0676, 0.0225, 1.8225]
"""Nine laboratories: Kacker 2004, Metrologia 41, table 1, first row, as statsmodels keeps them."""


def log_relative_risks():
    ill, well, ill_without, well_without = np.array(BCG, float).T
    with_it, without = ill + well, ill_without + well_without
    means = np.log(ill / with_it) - np.log(ill_without / without)
    return means, 1 / ill - 1 / with_it + 1 / ill_without - 1 / without


def shares_of(variances):
    return (1 / variances) / (1 / variances).sum()


def test_tau_and_interval_of_the_bcg_trials():
    """tau^2: metafor's own tests of these data (tests/testthat/test_misc_rma_uni.r, 0.3181).

    The rest: statsmodels 0.15, ``combine_effects(method_re="pm")``, with its ``use_t`` interval
    after Hartung and Knapp. The prediction interval is that of Higgins et al. 2009 from these.
    """
    found = random_effects(*log_relative_risks())
    assert found.between == pytest.approx(0.3181, abs=5e-5)
    assert found.mean == pytest.approx(-0.7149681535)
    assert found.interval() == pytest.approx((-1.10909838, -0.32083793))
    assert (found.df, found.sets, found.common) == (12, 13, None)
    half = stats.t.ppf(0.975, 11) * math.sqrt(0.3180684522 + 0.1808921915**2)
    assert found.prediction() == pytest.approx((-0.7149681535 - half, -0.7149681535 + half))


def test_hartung_and_knapps_interval_of_the_bcg_trials_at_der_simonian_and_lairds_tau():
    """Mean and tau^2, 0.3088: metafor's test_misc_metan_vs_rma.uni_with_dat.bcg.r, where Stata's
    ``metan`` has the same. The interval: statsmodels 0.15, ``combine_effects(method_re="dl")``.
    """
    means, variances = log_relative_risks()
    mean, variance = hartung_knapp(means, shares_of(variances + 0.30876026))
    half = stats.t.ppf(0.975, 12) * math.sqrt(variance)
    assert mean == pytest.approx(-0.7141, abs=5e-5)
    assert (mean - half, mean + half) == pytest.approx((-1.10782135, -0.32041309))


def test_kackers_laboratories():
    """tau: Kacker 2004 (0.8399). The rest: metafor, ``rma(y, v, method="PM")`` and, for Hartung and
    Knapp at another tau^2, ``rma(y, v, method="DL", test="knha")``; both are kept by statsmodels
    (stats/tests/results/results_meta.py).
    """
    found = random_effects(np.array(KACKER), np.array(KACKER_VARIANCES))
    assert math.sqrt(found.between) == pytest.approx(0.8399, abs=5e-5)
    assert found.between == pytest.approx(0.705395309224248)
    assert found.mean == pytest.approx(62.4076199113286)
    assert found.variance == pytest.approx(0.114264688351227)
    shares = shares_of(np.array(KACKER_VARIANCES) + 0.288049246973751)
    mean, variance = hartung_knapp(np.array(KACKER), shares)
    assert mean == pytest.approx(62.3901386044504)
    assert math.sqrt(variance) == pytest.approx(0.29477605699879)
    half = stats.t.ppf(0.975, 8) * math.sqrt(variance)
    assert (mean - half, mean + half) == pytest.approx((61.710383798052, 63.0698934108488))


def test_the_clasp_trials():
    """DerSimonian and Kacker 2007, tables 3 and 4: tau, mean and standard error by Paule and
    Mandel, as metafor's test_analysis_example_dersimonian2007.r has them with the counts.
    """
    ill = np.array([5, 5, 12, 69, 9, 313.0])
    ill_without = np.array([8, 17, 9, 94, 11, 352.0])
    well = np.array([156, 303, 565, 1570, 103, 4659]) - ill
    well_without = np.array([74, 303, 477, 1565, 105, 4650]) - ill_without
    means = np.log(ill / well) - np.log(ill_without / well_without)
    found = random_effects(means, 1 / ill + 1 / well + 1 / ill_without + 1 / well_without)
    values = (math.sqrt(found.between), found.mean, math.sqrt(found.variance))
    assert values == pytest.approx((0.3681, -0.3811, 0.2060), abs=5e-5)


def test_the_published_prediction_interval_of_ten_trials_of_blood_pressure():
    """R's pimeta, ``pima_hts(sbp$y, sbp$sigmak)``: its documentation prints mean, tau^2 and both
    intervals after Higgins, Thompson and Spiegelhalter 2009; the variance is from the first.
    """
    variance = ((0.5068 - 0.1613) / 2 / stats.t.ppf(0.975, 9)) ** 2
    found = RandomEffects(-0.3340597, variance, 9, 0.02824971, None, 10)
    assert found.interval() == pytest.approx((-0.5068, -0.1613), abs=1e-4)
    assert found.prediction() == pytest.approx((-0.7597777, 0.09165839), abs=1e-4)


def draw(rng, *, seeds=5, sets=15, between=0.5, shared=0.0, own=0.25):
    """Seed means and variances as contrasts of single sets have them, the true mean 0."""
    queries = np.geomspace(0.1, 1.5, sets)  # deviation of a set's mean over queries
    rows = rng.normal(size=sets) * between + rng.normal(size=sets) * queries
    rows = rows + rng.normal(size=(seeds, 1)) * shared + rng.normal(size=(seeds, sets)) * own
    return rows, rows.var(0, ddof=1) / seeds + queries**2


def holds(ends, truth=0.0):
    return ends[0] < truth < ends[1]


@pytest.mark.parametrize(
    ("seeds", "shared", "least"), [(5, 0.0, 0.92), (5, 1.0, 0.92), (3, 1.0, 0.89), (2, 1.0, 0.83)]
)
def test_the_interval_holds_the_truth_where_sets_share_their_seeds(seeds, shared, least):
    """Without the shared part it does so in fewer than 2 of 3 draws as soon as seeds differ."""
    rng = np.random.default_rng(0)
    held, without, predicted, taus = [], [], [], []
    for _ in range(2000):
        rows, variances = draw(rng, seeds=seeds, shared=shared)
        found = random_effects(rows, variances)
        held.append(holds(found.interval()))
        without.append(holds(random_effects(rows.mean(0), variances).interval()))
        predicted.append(holds(found.prediction(), rng.normal() * 0.5))
        taus.append(found.between)
    assert least < np.mean(held) < 0.97
    assert 0.90 < np.mean(predicted) < 0.97
    assert np.mean(taus) == pytest.approx(0.25, abs=0.07)  # not 0, as with c left in the variances
    assert (np.mean(without) < 2 / 3) == (shared > 0)


SIZES = [50, 50, 90, 200, 300, 320, 650, 1000, 1400, 1700, 3500, 5200, 6700, 7400, 13000]


@pytest.mark.parametrize("sizes", [SIZES[::7], SIZES])
@pytest.mark.parametrize("between", [0.0, 0.5, 2.0])
def test_few_sets_that_agree_by_luck_are_not_surer_than_their_variances(sizes, between):
    """Sets of these sizes, queries that deviate by 18 points, one training: 87 % and more."""
    rng = np.random.default_rng(0)
    deviations = 18 / np.sqrt(sizes)
    held, plain, predicted = [], [], []
    for _ in range(1500):
        means = rng.normal(size=len(sizes)) * np.hypot(deviations, between)
        found = random_effects(means, deviations**2)
        held.append(holds(found.interval()))
        predicted.append(holds(found.prediction(), rng.normal() * between))
        mean, variance = hartung_knapp(means, shares_of(deviations**2 + found.between))
        half = stats.t.ppf(0.975, len(sizes) - 1) * math.sqrt(variance)
        plain.append(holds((mean - half, mean + half)))
    assert np.mean(held) >= max(0.87, np.mean(plain))
    assert np.mean(predicted) > 0.87
    assert np.mean(plain) > 0.8


def test_sets_that_agree_have_the_variance_of_their_average():
    found = random_effects(np.full(4, 0.3), np.full(4, 0.04))
    assert (found.between, found.variance) == (0, pytest.approx(0.01))


seeds_and_sets = st.tuples(st.integers(1, 6), st.integers(3, 20), st.integers(0, 10**6))


def any_draw(shape):
    seeds, sets, seed = shape
    rng = np.random.default_rng(seed)
    between, shared, own = rng.uniform(0, 1, size=3)
    rows, variances = draw(
        rng, seeds=max(seeds, 2), sets=sets, between=between, shared=shared, own=own
    )
    return rows[:seeds], variances


@given(seeds_and_sets)
def test_all_is_what_the_models_covariance_matrix_says(shape):
    """Means on sets covary by c, and vary by v + tau^2: traces and quadratic forms of that."""
    rows, variances = any_draw(shape)
    found = random_effects(rows, variances)
    seeds, sets = rows.shape
    pairs = list(combinations(rows.T, 2))
    common = 0.0
    if seeds > 1:
        covariances = [np.cov(one, other)[0, 1] for one, other in pairs]
        common = max(sum(covariances) / len(pairs), 0) / seeds
        assert found.common == pytest.approx(common)
    else:
        assert found.common is None
    whole = variances + found.between
    model = np.diag(whole - common) + common
    means, weights = rows.mean(0), 1 / whole
    form = np.diag(weights) - np.outer(weights, weights) / weights.sum()
    expected, seen = np.trace(form @ model), means @ form @ means
    if found.between > 0:
        assert seen == pytest.approx(expected)
    else:
        assert seen <= expected
    shares = weights / weights.sum()
    assert found.mean == pytest.approx(shares @ means)
    spread = seen / weights.sum() / (sets - 1)
    assert found.variance == pytest.approx(max(shares @ model @ shares, spread + common))
    smaller = min(sets, seeds) - 1 or sets - 1
    assert smaller <= found.df + 1e-9 <= sets + seeds - 1
    low, high = found.prediction()
    assert low <= found.interval()[0] <= found.interval()[1] <= high


@given(seeds_and_sets, st.floats(-100, 100), st.floats(1e-3, 1e3), st.booleans())
def test_shift_scale_and_order_change_no_more_than_they_must(shape, shift, scale, turned):
    rows, variances = any_draw(shape)
    sign = -1 if turned else 1
    found = random_effects(rows, variances)
    moved = random_effects((rows * scale * sign + shift)[:, ::-1], (variances * scale**2)[::-1])
    close = {"rel": 1e-5, "abs": 1e-6 * scale**2}
    assert moved.between == pytest.approx(found.between * scale**2, **close)
    assert moved.variance == pytest.approx(found.variance * scale**2, **close)
    for method in (RandomEffects.interval, RandomEffects.prediction):
        ends = sorted(end * scale * sign + shift for end in method(found))
        assert method(moved) == pytest.approx(ends, rel=1e-5, abs=1e-4 * scale)


def test_one_row_is_as_means_without_seeds():
    means, variances = log_relative_risks()
    assert random_effects(means[None], variances) == random_effects(means, variances)


def test_seeds_that_move_apart_on_sets_share_nothing():
    """The covariance is below 0, and nothing is added; three sets have a variance and K - 1."""
    rows = np.array([[0.1, 0.2, 0.3], [0.3, 0.0, 0.2]])
    found = random_effects(rows, np.full(3, 0.01))
    alone = random_effects(rows.mean(0), np.full(3, 0.01))
    assert (found.common, found.variance, found.df) == (0, alone.variance, 2)


def test_sets_on_which_nothing_varies():
    """They are as sure as the surest other; where none varies, only sets differ."""
    means = np.array([0.1, 0.2, 0.4])
    assert random_effects(means, np.array([0, 0.5, 1])) == random_effects(
        means, np.array([0.5, 0.5, 1])
    )
    found = random_effects(means, np.zeros(3))
    assert found.between == pytest.approx(means.var(ddof=1))
    assert found.interval() == pytest.approx(
        stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
    )
    certain = random_effects(np.full((2, 3), 0.25), np.zeros(3))
    assert (certain.interval(), certain.prediction()) == ((0.25, 0.25), (0.25, 0.25))
    assert (certain.between, certain.common, certain.df) == (0, 0, 2)


@pytest.mark.parametrize(
    ("means", "variances", "said"),
    [
        ([0.1, 0.2], [1, 1], "fewer than three sets"),
        (np.zeros((0, 3)), [1, 1, 1], "fewer than three sets"),
        (np.zeros((2, 3, 3)), [1, 1, 1], "fewer than three sets"),
        ([0.1, 0.2, 0.3], [1, 1], "3 sets have 2 variances"),
        ([0.1, math.nan, 0.3], [1, 1, 1], "not a finite number"),
        ([0.1, 0.2, 0.3], [1, math.inf, 1], "not a finite number"),
        ([0.1, 0.2, 0.3], [1, -0.5, 1], "-0.5, below 0"),
    ],
)
def test_what_has_no_summary_is_refused(means, variances, said):
    with pytest.raises(ValueError, match=said):
        random_effects(np.array(means), np.array(variances))
