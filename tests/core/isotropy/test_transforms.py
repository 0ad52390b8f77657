import numpy as np
import pytest
import torch

from ragcun_cli.core.isotropy.transforms import (
    ROTATIONS,
    TRANSFORMS,
    Affine,
    fit_transform,
    rotated,
)
from ragcun_cli.core.model import linear_head_weights


@pytest.fixture(scope="module")
def sample():
    """``(400, 12)`` rows of unequal variances, some way from the origin."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(400, 12, generator=generator) * torch.linspace(3, 0.2, 12)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    return rows @ turn + torch.linspace(-1, 2, 12)


def by_svd(sample):
    """Mean, principal directions as rows, and variances, by numpy's SVD of the centred rows."""
    rows = sample.double().numpy()
    mean = rows.mean(0)
    _, lengths, directions = np.linalg.svd(rows - mean, full_matrices=False)
    return mean, directions, lengths**2 / len(rows)


@pytest.mark.parametrize("name", ["none", "mean-removal"])
def test_the_basis_stays(sample, name):
    mean = 0 if name == "none" else sample.mean(0)
    torch.testing.assert_close(fit_transform(name, sample)(sample), sample - mean)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_all_but_the_top_by_hand(sample, k):
    mean, directions, _ = by_svd(sample)
    expected = sample.double().numpy() - mean
    for direction in directions[:k]:
        expected = expected - np.outer(expected @ direction, direction)
    found = fit_transform(f"all-but-the-top-{k}", sample)(sample.double())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    assert np.linalg.matrix_rank(found.numpy(), tol=1e-6) == 12 - k


@pytest.mark.parametrize("power", [0, 0.25, 0.5, 0.75, 1])
def test_whitening_by_another_decomposition(sample, power):
    mean, directions, variances = by_svd(sample)
    found = fit_transform(f"whitening-{power:g}", sample)(sample.double()).numpy()
    expected = (sample.double().numpy() - mean) @ directions.T * variances ** (-power / 2)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    covariance = np.cov(found.T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(variances ** (1 - power)), atol=1e-9)


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_whitening_is_the_linear_start_of_a_head_but_for_its_scale(sample, power):
    _, second, bias = linear_head_weights(sample, output_dim=12, centre=True, whitening=power)
    found = fit_transform(f"whitening-{power:g}", sample)
    start, scale = second[:, :12].double(), float(second[0, 0] / found.matrix[0, 0])
    torch.testing.assert_close(start, scale * found.matrix, rtol=1e-5, atol=1e-6)
    expected = -scale * found.matrix @ found.mean
    torch.testing.assert_close(bias.double(), expected, rtol=1e-5, atol=1e-5)


def test_spectral_scaling_by_hand(sample):
    """The docstring's formula, direction by direction."""
    _, _, variances = by_svd(sample)
    found = fit_transform("spectral-scaling", sample)(sample.double()).numpy()
    floor, first, last = np.mean(variances[9:]), variances[0], variances[-1]
    gaps = [(1 - k / 11) - (v - last) / (first - last) for k, v in enumerate(variances)]
    knee = variances[int(np.argmax(gaps))]
    expected = []
    for variance in variances:
        gamma = min(1, max(0, np.log(variance / floor) / np.log(knee / floor)))
        expected.append(variance / (variance / knee) ** gamma)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.diag(expected), atol=1e-9)
    assert 0 < int(np.argmax(gaps)) < 8
    np.testing.assert_allclose(expected[: int(np.argmax(gaps)) + 1], knee)
    assert expected[-1] == last


@pytest.mark.parametrize("name", TRANSFORMS)
def test_directions_without_variance_are_not_blown_up(sample, name):
    flat = sample.clone()
    flat[:, 7:] = flat[:, :5] + 1  # rank 7
    found = fit_transform(name, flat)(flat)
    assert found.shape == flat.shape
    assert found.isfinite().all()
    if name.startswith(("whitening", "spectral")):
        assert (found[:, 7:] == 0).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_equal_variances_and_few_rows(name):
    for rows in (torch.eye(6), torch.tensor([[1.0, 0, 0], [0, 2, 0]])):
        assert fit_transform(name, rows)(rows).isfinite().all()


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("name", ["none", "all-but-the-top-2", "whitening-0.5"])
def test_rotations_are_orthogonal_and_move_no_product(sample, name, rotation):
    plain = fit_transform(name, sample)
    turned = rotated(plain, rotation, sample)
    rows, expected = turned(sample.double()), plain(sample.double())
    torch.testing.assert_close(rows @ rows.T, expected @ expected.T)
    assert turned.name == " + ".join(one for one in (name, rotation) if one != "none") or "none"


def loss(affine: Affine, sample):
    """Mean squared distance to the nearest corner of a cube, of centred outputs."""
    rows = affine(sample.double())
    rows = rows - rows.mean(0)
    return float((rows.abs() - 1).square().mean())


@pytest.mark.parametrize("name", ["none", "whitening-0", "whitening-1", "all-but-the-top-1"])
def test_itq_comes_closer_to_signs_than_a_random_rotation(sample, name):
    plain = fit_transform(name, sample)
    found = [loss(rotated(plain, rotation, sample), sample) for rotation in ROTATIONS[1:]]
    assert found[1] < found[0] - 1e-3


def test_single_precision_stays_single(sample):
    assert fit_transform("whitening-1", sample)(sample).dtype == torch.float32
