from dataclasses import replace

import pytest
import torch
from objectives import SETTINGS

from ragcun_cli.core.model import gaussian_head
from ragcun_cli.core.training.probe import probe

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives

WIDTH = 512
SPECTRA = {
    "even": (torch.ones(WIDTH), 512),
    "rank 128": (torch.cat([torch.ones(128), torch.zeros(WIDTH - 128)]), 128),
    "rank 32": (torch.cat([torch.ones(32), torch.zeros(WIDTH - 32)]), 32),
    "1/k": (1 / torch.arange(1, WIDTH + 1.0), 28),
}


def pairs(spectrum, *, rows=1000, offset=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    spectrum = spectrum * WIDTH / spectrum.sum()
    draws = torch.randn(2, rows, WIDTH, generator=generator) * spectrum.sqrt() * scale + offset
    return draws[0], draws[1]


def look(spectrum, *, batch_size, offset=0.0, scale=1.0, **changes):
    sides = pairs(spectrum, offset=offset, scale=scale)
    return probe(*sides, settings=replace(SETTINGS, **changes), batch_size=batch_size, seed=1)


@pytest.mark.parametrize("batch_size", [64, 250])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_expected_statistic_is_the_measured_one_within_a_tenth(name, batch_size):
    spectrum, ratio = SPECTRA[name]
    seen = look(spectrum, batch_size=batch_size)
    assert seen.expected == pytest.approx(seen.measured, rel=0.1)
    assert seen.participation_ratio == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize("changes", [{"offset": 0.2}, {"scale": 0.7}, {"pooled": True}])
def test_offset_scale_and_pooling_are_foretold_too(changes):
    seen = look(SPECTRA["rank 32"][0], batch_size=200, **changes)
    assert seen.expected == pytest.approx(seen.measured, rel=0.1)


def test_the_gain_for_each_row_is_the_closed_form_for_slowly_varying_slices():
    # E = T0 + 0.1206 N 2 / (K + 2) (K / PR - 1), for mean 0 and trace K
    seen = [look(SPECTRA["rank 128"][0], batch_size=size) for size in (200, 1000)]
    gain = (seen[1].expected - seen[0].expected) / 800
    assert gain == pytest.approx(0.1206 * 2 / 514 * (512 / 128 - 1), rel=0.06)


def test_the_null_is_that_of_the_calibration():
    seen = look(SPECTRA["even"][0], batch_size=64)
    assert seen.null_mean == pytest.approx(1.0525, abs=1e-4)
    assert 0.015 < seen.null_std < 0.06
    assert abs(seen.signal) < 1
    assert seen.visible_batch > 5000


def test_at_the_visible_batch_the_signal_is_two_spreads():
    spectrum = SPECTRA["rank 128"][0]
    batch = look(spectrum, batch_size=64).visible_batch
    seen = look(spectrum, batch_size=round(batch))
    assert seen.signal == pytest.approx(2, abs=0.15)


def test_a_batch_beyond_the_sample_is_foretold_and_not_measured():
    seen = look(SPECTRA["rank 32"][0], batch_size=4096)
    assert seen.measured is None
    assert seen.expected > 20


def test_gradient_shares_add_up_and_follow_the_weight():
    shares = look(SPECTRA["rank 32"][0], batch_size=64).gradient_shares
    assert sum(shares.values()) == pytest.approx(1)
    less = look(SPECTRA["rank 32"][0], batch_size=64, lambda_isotropy=0.1).gradient_shares
    assert 0 < less["isotropy"] < shares["isotropy"]
    none = look(SPECTRA["rank 32"][0], batch_size=64, lambda_isotropy=0.0, lambda_reg=0.0)
    assert none.gradient_shares == {"contrastive": 1.0}


def head():
    torch.manual_seed(0)
    return torch.nn.Sequential(*gaussian_head(WIDTH, output_dim=48, dropout=0.0))


def through_head(*, batch_size, **changes):
    # Far below the null's level the statistic is noise; a scale of 2 gives it a signal.
    sides = pairs(SPECTRA["rank 32"][0], scale=2.0)
    settings = replace(SETTINGS, **{"slices": 64, "scale": 1.0, **changes})
    return probe(*sides, settings=settings, batch_size=batch_size, seed=1, head=head())


@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg", "spread_out"])
@pytest.mark.parametrize("combination", ["sum", "convex"])
def test_carried_over_the_share_on_the_heads_parameters_stays(combination, regulariser):
    # in the convex form a variance term would take a share of its own
    variance = 0.0 if combination == "convex" else 0.1
    kind = {"combination": combination, "regulariser": regulariser, "lambda_reg": variance}
    small = through_head(batch_size=32, lambda_isotropy=0.4, **kind)
    assert list(small.carried_over) == [64, 128, 256, 512]
    share = small.head_gradient_shares["isotropy"]
    assert 0 < share < 1
    for size in (64, 256):
        weight = small.carried_over[size]
        large = through_head(batch_size=size, lambda_isotropy=weight, **kind)
        assert large.head_gradient_shares["isotropy"] == pytest.approx(share, rel=1e-4)
        uncarried = through_head(batch_size=size, lambda_isotropy=0.4, **kind)
        assert uncarried.head_gradient_shares["isotropy"] != pytest.approx(share, rel=1e-2)


def test_without_a_head_or_an_isotropy_term_nothing_is_carried_over():
    bare = look(SPECTRA["rank 32"][0], batch_size=64)
    assert (bare.head_gradient_shares, bare.carried_over) == ({}, {})
    none = through_head(batch_size=32, lambda_isotropy=0.0, lambda_reg=0.0)
    assert (none.head_gradient_shares, none.carried_over) == ({"contrastive": 1.0}, {})
    assert through_head(batch_size=900).carried_over == {}, "there are no pairs for a larger one"


def test_with_a_head_the_embeddings_are_what_it_makes_of_its_inputs():
    sides = pairs(SPECTRA["rank 32"][0], scale=2.0)
    with torch.no_grad():
        made = [head()({"sentence_embedding": side})["sentence_embedding"] for side in sides]
    settings = replace(SETTINGS, slices=64, scale=1.0)
    expected = probe(*made, settings=settings, batch_size=32, seed=1)
    seen = through_head(batch_size=32)
    assert seen.measured == pytest.approx(expected.measured, rel=1e-6)
    assert seen.gradient_shares == pytest.approx(expected.gradient_shares, rel=1e-5)
