"""Perfectly isotropic Gaussians: what theory says of them, what is drawn, and cheap exact draws."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ragcun_cli.core.isotropy import spectrum
from ragcun_cli.core.isotropy.gaussian_null import gaussian_participation_ratios, null_intervals
from ragcun_cli.core.isotropy.moments import BlockedMoments

D = 512
SIZES = [300, 1000, 5000, 50_000]


def drawn_ratios(texts, *, dimensions, draws):
    """Participation ratios of samples that are really drawn, streamed as texts are."""
    ratios = []
    for seed in range(draws):
        rng, seen = np.random.default_rng(seed), BlockedMoments()
        for start in range(0, texts, 10_000):
            rows = rng.standard_normal((min(10_000, texts - start), dimensions), np.float32)
            seen.add(rows, first_row=start)
        scatter = seen.total().scatter
        ratios.append(np.trace(scatter) ** 2 / np.square(scatter).sum())
    return np.array(ratios)


def assert_as_theory_says(ratios, texts, *, dimensions=D):
    """The mean score has its closed form, and the corrected measures show no unevenness."""
    scores = 1 - np.sqrt(dimensions / ratios - 1)
    expected = spectrum.plan_score_of_gaussian(texts, dimensions=dimensions)
    assert scores.mean() == pytest.approx(expected, abs=0.002)
    size = {"texts": texts, "dimensions": dimensions}
    uneven = np.array([spectrum.corrected_unevenness(ratio, **size) for ratio in ratios])
    assert uneven.mean() == pytest.approx(0, abs=0.005 if texts < 1000 else 0.001)
    if texts >= 1000:
        corrected = [spectrum.corrected_participation_ratio(r, texts=texts) for r in ratios]
        assert np.array(corrected) / dimensions == pytest.approx(np.ones(len(ratios)), abs=0.01)


@pytest.mark.parametrize("texts", SIZES)
def test_the_closed_form_holds_over_simulated_gaussians(texts):
    assert_as_theory_says(gaussian_participation_ratios(texts, dimensions=D, draws=200), texts)


@pytest.mark.parametrize(("texts", "draws"), [(300, 30), (1000, 30), (5000, 30), (50_000, 5)])
def test_the_closed_form_holds_over_drawn_gaussians(texts, draws):
    assert_as_theory_says(drawn_ratios(texts, dimensions=D, draws=draws), texts)


@pytest.mark.parametrize(("texts", "score"), [(300, -0.3098), (1000, 0.2834), (5000, 0.6797)])
def test_cheap_draws_give_the_known_scores(texts, score):
    ratios = gaussian_participation_ratios(texts, dimensions=D, draws=100)
    assert (1 - np.sqrt(D / ratios - 1)).mean() == pytest.approx(score, abs=0.002)


@pytest.mark.parametrize(("texts", "dimensions"), [(5, 3), (40, 12), (9, 12), (13, 12), (4, 30)])
def test_cheap_draws_are_distributed_like_drawn_texts(texts, dimensions):
    """In samples with fewer texts than dimensions, with as many and with more."""
    cheap = gaussian_participation_ratios(texts, dimensions=dimensions, draws=4000)
    drawn = drawn_ratios(texts, dimensions=dimensions, draws=1500)
    assert ks_2samp(cheap, drawn).pvalue > 0.001
    assert cheap.mean() == pytest.approx(drawn.mean(), rel=0.01)


def test_cheap_draws_of_a_large_sample_have_the_spread_of_drawn_ones():
    cheap = gaussian_participation_ratios(300, dimensions=D, draws=2000)
    drawn = drawn_ratios(300, dimensions=D, draws=40)
    assert ks_2samp(cheap, drawn).pvalue > 0.001
    assert 0.7 < drawn.std() / cheap.std() < 1.4


def test_draws_depend_on_the_seed_alone():
    draw = {"dimensions": 8, "draws": 50}
    first = gaussian_participation_ratios(20, **draw)
    assert np.array_equal(first, gaussian_participation_ratios(20, **draw))
    assert not np.array_equal(first, gaussian_participation_ratios(20, **draw, seed=1))


def test_an_interval_holds_its_share_of_gaussians():
    intervals = null_intervals(50, dimensions=20)
    ratios = gaussian_participation_ratios(50, dimensions=20, draws=4000, seed=5)
    values = {
        "plan_score": 1 - np.sqrt(20 / ratios - 1),
        "unevenness_corrected": np.array(
            [spectrum.corrected_unevenness(r, texts=50, dimensions=20) for r in ratios]
        ),
    }
    for name, drawn in values.items():
        low, high = intervals[name]
        assert np.mean((drawn >= low) & (drawn <= high)) == pytest.approx(0.95, abs=0.015)


def test_the_root_lets_a_perfect_gaussian_fall_to_094():
    low, high = null_intervals(1000, dimensions=D)["plan_score_corrected"]
    assert low == pytest.approx(0.93, abs=0.01)
    assert high == 1
