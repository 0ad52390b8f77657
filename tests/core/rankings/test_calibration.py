import math
from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ragcun_cli.core.rankings.calibration import (
    FOLDS,
    Calibration,
    calibration,
    fold_numbers,
    platt_fit,
)


def drawn(n, *, slope, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    relevant = rng.random(n) < 1 / (1 + np.exp(-slope * scores))
    return scores, relevant.astype(int), np.arange(n) % FOLDS


def slow_aurc(wrong_in_order):
    return sum(sum(wrong_in_order[:k]) / k for k in range(1, len(wrong_in_order) + 1)) / len(
        wrong_in_order
    )


def test_the_fit_is_the_optimum_that_scipy_finds_with_platts_targets():
    scores, relevant, _ = drawn(80, slope=1.5, seed=1)
    hits = relevant.sum()
    targets = np.where(relevant, (hits + 1) / (hits + 2), 1 / (80 - hits + 2))

    def loss(weights):
        logits = weights[0] * scores + weights[1]
        return np.mean(np.log1p(np.exp(logits)) - targets * logits)

    expected = minimize(
        loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15}
    )
    assert platt_fit(scores, relevant.astype(float)) == pytest.approx(expected.x, abs=1e-5)


def test_the_fit_is_sklearns_logistic_regression_when_targets_are_weights():
    scores, relevant, _ = drawn(120, slope=2, seed=2)
    hits = relevant.sum()
    high, low = (hits + 1) / (hits + 2), 1 / (120 - hits + 2)
    target = np.where(relevant, high, low)
    twice = np.concatenate([scores, scores])[:, None]
    labels = np.repeat([1, 0], 120)
    weight = np.concatenate([target, 1 - target])
    sklearn = LogisticRegression(C=np.inf, tol=1e-10).fit(twice, labels, sample_weight=weight)
    fitted = platt_fit(scores, relevant.astype(float))
    assert fitted == pytest.approx((sklearn.coef_[0, 0], sklearn.intercept_[0]), abs=1e-5)


def test_the_fit_stays_finite_when_scores_part_the_classes():
    scores = np.array([-2.0, -1, 1, 2])
    slope, offset = platt_fit(scores, np.array([0.0, 0, 1, 1]))
    assert 0 < slope < 10
    assert offset == pytest.approx(0, abs=1e-8)


def test_with_equal_scores_the_fit_is_the_smoothed_share():
    slope, offset = platt_fit(np.zeros(10), np.array([1.0] * 3 + [0.0] * 7))
    share = (3 * 4 / 5 + 7 / 9) / 10
    assert slope == pytest.approx(0, abs=1e-9)
    assert offset == pytest.approx(math.log(share / (1 - share)), abs=1e-6)


def test_one_class_gives_platts_target():
    slope, offset = platt_fit(np.array([-1.0, 0, 1]), np.ones(3))
    assert slope == pytest.approx(0, abs=1e-6)
    assert 1 / (1 + math.exp(-offset)) == pytest.approx(4 / 5, abs=1e-6)


def test_probabilities_come_from_a_fit_that_did_not_see_the_query():
    scores, relevant, folds = drawn(60, slope=1, seed=3)
    before = calibration(scores, relevant, folds=folds, bins=10)
    predicted = []
    for k in range(FOLDS):
        rest = folds != k
        centre, spread = scores[rest].mean(), scores[rest].std()
        slope, offset = platt_fit((scores[rest] - centre) / spread, relevant[rest].astype(float))
        logits = slope * (scores[~rest] - centre) / spread + offset
        predicted += zip(1 / (1 + np.exp(-logits)), relevant[~rest], strict=True)
    predicted.sort()
    for part, six in zip(before.curve, np.array(predicted).reshape(10, 6, 2), strict=True):
        assert part.count == 6
        assert part.predicted == pytest.approx(six[:, 0].mean())
        assert part.observed == pytest.approx(six[:, 1].mean())
    gaps = [abs(part.predicted - part.observed) * 6 for part in before.curve]
    assert before.ece == pytest.approx(sum(gaps) / 60)
    assert before.brier == pytest.approx(np.mean([(p - y) ** 2 for p, y in predicted]))


def test_aurc_is_the_brute_force_area_and_lies_between_best_and_random():
    scores, relevant, folds = drawn(50, slope=2, seed=4)
    found = calibration(scores, relevant, folds=folds)
    wrong = [1 - r for _, r in sorted(zip(scores, relevant, strict=True), reverse=True)]
    assert found.aurc == pytest.approx(slow_aurc(wrong))
    assert found.aurc_best == pytest.approx(slow_aurc(sorted(wrong)))
    assert found.aurc_random == pytest.approx(sum(wrong) / 50)
    assert found.aurc_best < found.aurc < found.aurc_random


def test_aurc_of_ties_is_the_mean_over_their_orders():
    scores = np.array([3.0] * 3 + list(np.linspace(-1, -2, 17)))
    relevant = np.array([1, 0, 0] + [1, 0] * 8 + [1])
    orders = [slow_aurc([*tied, *(1 - relevant[3:])]) for tied in permutations([0, 1, 1])]
    found = calibration(scores, relevant, folds=np.arange(20) % 5)
    assert found.aurc == pytest.approx(np.mean(orders))


def test_the_expected_aurc_of_a_random_order_is_the_error_rate():
    rng = np.random.default_rng(0)
    wrong = np.array([1.0] * 6 + [0.0] * 14)
    areas = [slow_aurc(list(rng.permutation(wrong))) for _ in range(4000)]
    assert np.mean(areas) == pytest.approx(0.3, abs=4 * np.std(areas) / math.sqrt(4000))


def test_auroc_is_sklearns_with_ties():
    scores, relevant, folds = drawn(90, slope=1, seed=5)
    scores = scores.round(1)
    assert len(np.unique(scores)) < 90
    found = calibration(scores, relevant, folds=folds)
    assert found.auroc == pytest.approx(roc_auc_score(relevant, scores))


def test_scale_and_offset_of_the_scores_and_the_order_of_queries_are_without_effect():
    scores, relevant, folds = drawn(70, slope=1, seed=6)
    scores = scores.round(1)
    expected = calibration(scores, relevant, folds=folds)
    order = np.random.default_rng(1).permutation(70)
    moved = calibration(8 * scores[order] - 1000, relevant[order], folds=folds[order])
    for name in ("ece", "brier", "aurc", "auroc"):
        assert getattr(moved, name) == pytest.approx(getattr(expected, name), abs=1e-8)


def test_scores_that_drive_relevance_are_well_calibrated_and_noise_is_no_better_than_chance():
    known = calibration(*drawn(5000, slope=2, seed=7)[:2], folds=np.arange(5000) % 5)
    by_chance = math.sqrt(2 * 0.25 * 10 / (math.pi * 5000))
    assert known.ece < 2 * by_chance
    assert known.brier < known.brier_of_base_rate - 0.05
    _, relevant, folds = drawn(5000, slope=2, seed=8)
    noise = calibration(np.random.default_rng(9).normal(size=5000), relevant, folds=folds)
    assert noise.auroc == pytest.approx(0.5, abs=0.03)
    assert noise.brier == pytest.approx(noise.brier_of_base_rate, abs=1e-3)


def test_the_ece_of_right_probabilities_is_about_what_the_docstring_says():
    rng = np.random.default_rng(2)
    gaps = [np.abs((rng.random((10, 50)) < 0.3).mean(1) - 0.3).mean() for _ in range(400)]
    assert np.mean(gaps) == pytest.approx(math.sqrt(2 * 0.21 * 10 / (math.pi * 500)), rel=0.03)


def test_ece_by_hand():
    # Two scores: within each, 3 of 4 and 1 of 4 in every fold, so predictions are two values.
    scores = np.tile([1.0, 1, 1, 1, 0, 0, 0, 0], 5)
    relevant = np.tile([1, 1, 1, 0, 0, 0, 0, 1], 5)
    found = calibration(scores, relevant, folds=np.repeat(range(5), 8), bins=2)
    low, high = found.curve
    assert (low.observed, high.observed) == (0.25, 0.75)
    # 16 of each class remain: Platt's targets are 17/18 and 1/18.
    assert high.predicted == pytest.approx(0.75 * 17 / 18 + 0.25 / 18)
    assert found.ece == pytest.approx(0.75 - high.predicted)
    assert found.auroc == pytest.approx(0.75 * 0.75 + 0.5 * 2 * 0.75 * 0.25)


@pytest.mark.parametrize(
    ("scores", "relevant", "reason"),
    [
        (np.arange(19), [0, 1] * 9 + [1], "19 queries with a hit; at least 20 are needed"),
        (np.arange(20), [0] * 20, "no query has a relevant best hit"),
        (np.arange(20), [1] * 20, "every query has a relevant best hit"),
        (np.ones(20), [0, 1] * 10, "all best hits have the same score"),
        ([], [], "0 queries with a hit; at least 20 are needed"),
    ],
)
def test_what_cannot_be_measured_is_none_with_a_reason(scores, relevant, reason):
    found = calibration(scores, relevant, folds=np.arange(len(relevant)) % 5)
    assert found == Calibration(len(relevant), sum(relevant), reason)
    assert found.ece is found.brier is found.aurc is found.auroc is None


@pytest.mark.parametrize(
    ("scores", "relevant", "folds", "message"),
    [
        ([1.0, 2], [1], [0, 1], "one value a query"),
        ([1.0, math.inf], [1, 0], [0, 1], "finite"),
        ([1.0, 2], [1, 2], [0, 1], "0 or 1"),
        (np.arange(20), [0, 1] * 10, np.zeros(20), "one fold"),
    ],
)
def test_malformed_input_is_refused(scores, relevant, folds, message):
    with pytest.raises(ValueError, match=message):
        calibration(scores, relevant, folds=folds)


def test_a_fold_depends_on_the_id_alone_and_folds_are_about_equal():
    ids = [f"q{n}" for n in range(1000)]
    folds = fold_numbers(ids)
    assert fold_numbers(reversed(ids)).tolist() == folds[::-1].tolist()
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    assert np.bincount(folds).min() > 150
