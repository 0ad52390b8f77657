import dataclasses
import math

import numpy as np
import pytest

from ragcun_cli.core.isotropy import spectrum as isotropy
from ragcun_cli.core.isotropy.moments import BlockedMoments
from ragcun_cli.core.isotropy.spectrum import Isotropy, isotropy_of, measure_isotropy


def gaussian(texts, dimensions, *, seed=0):
    return np.random.default_rng(seed).normal(size=(texts, dimensions))


def uneven(texts, dimensions, *, seed=0):
    """Embeddings with a steep spectrum and a common offset."""
    return gaussian(texts, dimensions, seed=seed) / np.arange(1, dimensions + 1) + 0.3


def rotation(dimensions):
    return np.linalg.qr(gaussian(dimensions, dimensions, seed=9))[0]


def covariance_spectrum(embeddings):
    return np.clip(np.linalg.eigvalsh(np.cov(embeddings.T)), 0, None)


def cross_shape(dimensions):
    """``2 d`` points at unit distance along both ends of every axis: exactly isotropic."""
    return np.concatenate([np.eye(dimensions), -np.eye(dimensions)])


# Simulated mean and standard deviation at d = 512.
SIMULATED = [(300, -0.3107, 0.0030), (1000, 0.2832, 0.0017), (5000, 0.6796, 0.0005)]


@pytest.mark.parametrize(("texts", "score", "deviation"), SIMULATED)
def test_gaussian_embeddings_score_what_theory_says_at_this_size(texts, score, deviation):
    measured = measure_isotropy(gaussian(texts, 512).astype(np.float32))
    assert (measured.texts, measured.dimensions) == (texts, 512)
    assert measured.plan_score == pytest.approx(score, abs=4 * deviation)
    assert measured.plan_score_of_gaussian == pytest.approx(score, abs=4 * deviation)
    assert measured.norm_mean == pytest.approx(512**0.5, rel=0.01)
    assert measured.norm_std == pytest.approx(0.5**0.5, rel=0.15)


@pytest.mark.parametrize(("texts", "value"), [(300, 1.71568), (1000, 0.51351), (50_000, 0.01026)])
def test_the_score_of_a_gaussian_has_its_closed_form(texts, value):
    score = isotropy.plan_score_of_gaussian(texts, dimensions=512)
    assert (1 - score) ** 2 == pytest.approx(value, abs=1e-5)


def test_equal_texts_in_other_dimensions_do_not_compare():
    scores = [isotropy.plan_score_of_gaussian(53_359, dimensions=d) for d in (512, 768)]
    assert scores == pytest.approx([0.902, 0.880], abs=5e-4)


@pytest.mark.parametrize("embeddings", [uneven(60, 20), uneven(12, 20), gaussian(400, 7)])
def test_isoscore_is_the_published_one(embeddings):
    spectrum = covariance_spectrum(embeddings)
    d = len(spectrum)
    normalised = math.sqrt(d) * spectrum / np.linalg.norm(spectrum)
    defect = np.linalg.norm(normalised - 1) / math.sqrt(2 * (d - math.sqrt(d)))
    share = (d - defect**2 * (d - math.sqrt(d))) ** 2 / d**2
    assert measure_isotropy(embeddings).isoscore == pytest.approx((d * share - 1) / (d - 1))


@pytest.mark.parametrize("embeddings", [uneven(60, 20), uneven(12, 20)])
def test_the_score_is_one_minus_the_spread_of_all_variances(embeddings):
    spectrum = covariance_spectrum(embeddings)
    measured = measure_isotropy(embeddings)
    assert measured.plan_score == pytest.approx(1 - spectrum.std() / spectrum.mean())
    ratio = measured.participation_ratio
    assert ratio == pytest.approx(spectrum.sum() ** 2 / (spectrum**2).sum())
    assert measured.plan_score == pytest.approx(1 - math.sqrt(20 / ratio - 1))


@pytest.mark.parametrize("embeddings", [uneven(40, 11), gaussian(5, 30) + 1, -gaussian(3, 2)])
def test_mean_cosine_is_that_of_all_pairs(embeddings):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[~np.eye(len(unit), dtype=bool)]
    assert measure_isotropy(embeddings).mean_cosine == pytest.approx(pairs.mean())


def test_effective_rank_is_that_of_the_singular_values_of_the_centred_matrix():
    for embeddings in (uneven(50, 20), uneven(12, 20)):
        singular = np.linalg.svd(embeddings - embeddings.mean(0), compute_uv=False)
        shares = singular[singular > 1e-9] / singular.sum()
        expected = math.exp(-(shares * np.log(shares)).sum())
        assert measure_isotropy(embeddings).effective_rank == pytest.approx(expected, rel=1e-9)


def test_the_correction_is_the_ratio_of_unbiased_estimates():
    embeddings = uneven(25, 40)
    m = 24
    covariance = np.cov(embeddings.T)
    trace, of_square = np.trace(covariance), np.trace(covariance @ covariance)
    factor = m**2 / ((m - 1) * (m + 2))
    a = factor * (of_square - trace**2 / m)
    b = factor * ((1 + 1 / m) * trace**2 - 2 / m * of_square)
    measured = measure_isotropy(embeddings)
    assert measured.participation_ratio_corrected == pytest.approx(b / a)
    assert measured.unevenness_corrected == pytest.approx(40 * a / b - 1)
    assert measured.plan_score_corrected == pytest.approx(1 - math.sqrt(40 * a / b - 1))


def test_the_correction_undoes_the_bias_of_few_texts():
    measured = measure_isotropy(gaussian(300, 512))
    assert measured.participation_ratio < 200
    assert measured.participation_ratio_corrected == pytest.approx(512, rel=0.04)
    scales = np.arange(1, 101) ** -0.5
    truth = (scales**2).sum() ** 2 / (scales**4).sum()
    drawn = [measure_isotropy(gaussian(40, 100, seed=seed) * scales) for seed in range(40)]
    corrected = np.mean([each.participation_ratio_corrected for each in drawn])
    assert corrected == pytest.approx(truth, rel=0.08)
    assert np.mean([each.participation_ratio for each in drawn]) < 0.8 * truth


def test_exactly_even_variances_reach_the_upper_ends():
    measured = measure_isotropy(cross_shape(6))
    assert measured == Isotropy(
        texts=12,
        dimensions=6,
        plan_score=pytest.approx(1, abs=1e-7),
        plan_score_of_gaussian=pytest.approx(1 - math.sqrt(40 / 68)),
        unevenness_corrected=pytest.approx(6 * (5 / 11) / ((12 / 11) * 6 - 2 / 11) - 1),
        plan_score_corrected=1.0,
        participation_ratio=pytest.approx(6),
        participation_ratio_corrected=pytest.approx(((12 / 11) * 6 - 2 / 11) / (5 / 11)),
        isoscore=pytest.approx(1),
        effective_rank=pytest.approx(6),
        mean_cosine=pytest.approx(-1 / 11),
        mean_offset=pytest.approx(0),
        norm_mean=pytest.approx(1),
        norm_std=pytest.approx(0),
        norm_spread=pytest.approx(0),
    )


def test_a_line_reaches_the_lower_ends():
    line = np.outer([1.0, 2.0, 3.0, 6.0], [3.0, 0.0, 4.0, 0.0, 0.0])
    measured = measure_isotropy(line)
    assert measured.plan_score == pytest.approx(1 - math.sqrt(4))
    assert measured.participation_ratio == pytest.approx(1)
    assert measured.participation_ratio_corrected == pytest.approx(1)
    assert measured.unevenness_corrected == pytest.approx(4)
    assert measured.plan_score_corrected == pytest.approx(-1)
    assert measured.isoscore == pytest.approx(0, abs=1e-12)
    assert measured.effective_rank == pytest.approx(1)
    assert measured.mean_cosine == pytest.approx(1)
    assert measured.mean_offset == pytest.approx(3**2 / (50 / 4))
    assert measured.norm_mean == pytest.approx(15)
    assert measured.norm_std == pytest.approx(5 * math.sqrt(14 / 4))
    assert measured.norm_spread == pytest.approx(math.sqrt(14 / 4) / 3)


def test_texts_as_even_as_they_can_be_bound_nothing_from_above():
    measured = measure_isotropy(np.eye(5, 9))
    assert measured.participation_ratio == pytest.approx(4)
    assert measured.effective_rank == pytest.approx(4)
    assert measured.participation_ratio_corrected == math.inf
    assert (measured.unevenness_corrected, measured.plan_score_corrected) == (-1, 1)


def test_rotation_moves_no_measure():
    embeddings = uneven(50, 12)
    assert dataclasses.asdict(measure_isotropy(embeddings @ rotation(12))) == pytest.approx(
        dataclasses.asdict(measure_isotropy(embeddings))
    )


def test_scale_moves_the_lengths_only():
    embeddings = uneven(50, 12)
    before, after = (dataclasses.asdict(measure_isotropy(embeddings * by)) for by in (1, 1e-6))
    for name in ("norm_mean", "norm_std"):
        assert after.pop(name) == pytest.approx(before.pop(name) * 1e-6)
    assert after == pytest.approx(before)


def test_translation_moves_only_what_sees_the_mean():
    embeddings = uneven(50, 12)
    before, after = (dataclasses.asdict(measure_isotropy(embeddings + by)) for by in (0, 100))
    for name in ("mean_cosine", "mean_offset", "norm_mean", "norm_std", "norm_spread"):
        assert after.pop(name) != pytest.approx(before.pop(name), rel=0.01)
    assert after == pytest.approx(before)
    assert measure_isotropy(embeddings + 100).mean_offset > 0.999


def test_the_order_of_the_rows_moves_no_measure():
    embeddings = uneven(50, 12)
    before, after = (
        dataclasses.asdict(measure_isotropy(e)) for e in (embeddings, embeddings[::-1])
    )
    assert after == pytest.approx(before, rel=1e-12)


def test_streamed_measures_are_those_of_one_matrix():
    embeddings = uneven(500, 12)
    seen = BlockedMoments()
    for start in range(0, 500, 33):
        seen.add(embeddings[start : start + 33], first_row=start)
    streamed = dataclasses.asdict(isotropy_of(seen.total()))
    assert streamed == pytest.approx(dataclasses.asdict(measure_isotropy(embeddings)), rel=1e-10)


def test_half_precision_is_widened_before_anything_is_computed():
    embeddings = uneven(50, 12).astype(np.float16)
    assert measure_isotropy(embeddings) == measure_isotropy(embeddings.astype(np.float64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_rows_that_cannot_be_measured_are_refused_by_number(bad):
    embeddings = gaussian(20, 4)
    embeddings[[3, 11]] = bad
    with pytest.raises(ValueError, match=r"2 embeddings .*first rows: \[3, 11\]"):
        measure_isotropy(embeddings)


def test_equal_rows_are_refused():
    with pytest.raises(ValueError, match="all embeddings are equal"):
        measure_isotropy(np.tile([0.1, 0.7, 1 / 3], (1000, 1)))


@pytest.mark.parametrize("shape", [(2, 8), (8, 1), (8,), (2, 2, 2)])
def test_shapes_without_directions_are_refused(shape):
    with pytest.raises(ValueError, match=r"isotropy needs at least three|are no matrix of rows"):
        measure_isotropy(np.ones(shape))
