from dataclasses import replace

import pytest
import torch
from objectives import SETTINGS

from ragcun_cli.core.training.probe import carried_over, probe

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


def test_a_scaled_weight_falls_with_the_batch_and_another_stays():
    def carried(**changes):
        return carried_over(replace(SETTINGS, **changes), batch_size=16)

    assert carried()[64] == 0.25
    assert carried(lambda_isotropy=0.3, scaled_by_batch=False)[64] == pytest.approx(0.3)
    assert carried(regulariser="vicreg")[64] == 1.0
    # the weights of the convex form are 0.5 and 0.5 at 16, and have to be as 1 to 2 at 32
    convex = carried(lambda_isotropy=0.5, combination="convex")
    assert convex[32] == pytest.approx(1 / 3)


def test_carried_over_the_share_of_the_gradient_stays():
    sides = pairs(SPECTRA["rank 32"][0])
    shares = []
    for size, weight in [
        (32, 1.0),
        (256, carried_over(SETTINGS, batch_size=32)[256]),
    ]:
        settings = replace(SETTINGS, lambda_isotropy=weight, lambda_reg=0.0)
        # Far below the null's level the statistic is noise; a scale of 2 gives it a signal.
        seen = probe(2 * sides[0], 2 * sides[1], settings=settings, batch_size=size, seed=1)
        shares.append(seen.gradient_shares["isotropy"])
    assert shares[1] == pytest.approx(shares[0], rel=0.25)
