import math

import numpy as np
import pytest
import torch
from scipy.stats import skew

from ragcun_cli.core.isotropy.geometry import COSINE_BINS, alignment, mean_gap, measure_pairs
from ragcun_cli.core.rankings.hubness import hubness


def rows_of(count, dimensions=8, *, seed=0, offset=0.3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator, dtype=torch.float64) + offset


def rotation(dimensions):
    return torch.linalg.qr(rows_of(dimensions, dimensions, seed=9, offset=0.0))[0]


def test_uniformity_and_cosines_are_those_of_all_pairs():
    rows = rows_of(60)
    unit = rows / rows.norm(dim=1, keepdim=True)
    left, right = np.triu_indices(60, 1)
    cosines = (unit[left] * unit[right]).sum(1).numpy()
    distances = (unit[left] - unit[right]).square().sum(1)
    measured = measure_pairs(rows)
    assert measured.uniformity == pytest.approx(math.log(torch.exp(-2 * distances).mean()))
    expected, _ = np.histogram(cosines, bins=COSINE_BINS, range=(-1, 1))
    assert measured.counts == tuple(expected)


def test_pairs_across_blocks_count_once(monkeypatch):
    rows = rows_of(60)
    whole = measure_pairs(rows)
    monkeypatch.setattr("ragcun_cli.core.isotropy.geometry._ROWS_AT_ONCE", 7)
    parted = measure_pairs(rows)
    assert parted.counts == whole.counts
    assert sum(parted.counts) == 60 * 59 // 2
    assert parted.uniformity == pytest.approx(whole.uniformity)


def test_uniformity_has_its_known_values():
    gaussian = torch.randn(3000, 512, generator=torch.Generator().manual_seed(0))
    assert measure_pairs(gaussian).uniformity == pytest.approx(-3.984, abs=0.002)
    assert measure_pairs(torch.ones(5, 3)).uniformity == pytest.approx(0, abs=1e-6)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert measure_pairs(opposite).uniformity == pytest.approx(-8)
    assert measure_pairs(opposite).counts[0] == 1
    assert measure_pairs(torch.ones(2, 3)).counts[-1] == 1


@pytest.mark.parametrize("change", ["scale", "rotation", "order"])
def test_uniformity_is_invariant(change):
    rows = rows_of(50)
    changed = {"scale": 1e3 * rows, "rotation": rows @ rotation(8), "order": rows.flip(0)}[change]
    assert measure_pairs(changed).uniformity == pytest.approx(measure_pairs(rows).uniformity)
    assert measure_pairs(rows + 1).uniformity != pytest.approx(measure_pairs(rows).uniformity)


def test_one_row_makes_no_pair():
    with pytest.raises(ValueError, match="no pair"):
        measure_pairs(torch.ones(1, 3))


def test_alignment_is_two_minus_two_cosines():
    queries, positives = rows_of(40), rows_of(40, seed=1)
    cosines = torch.nn.functional.cosine_similarity(queries, positives)
    assert alignment(queries, positives) == pytest.approx(float(2 - 2 * cosines.mean()))
    assert alignment(queries, 3 * queries) == pytest.approx(0)
    assert alignment(queries, -queries) == pytest.approx(4)


def test_the_mean_gap_has_its_ends():
    queries = rows_of(40)
    assert mean_gap(queries, queries.flip(0)) == pytest.approx(0)
    point = torch.ones(5, 3)
    assert mean_gap(point, -point) == pytest.approx(4)
    assert mean_gap(point, 0 * point) == pytest.approx(2)


def test_chance_gives_the_gap_that_its_docstring_says():
    queries, positives = rows_of(2000, 64, offset=0.0), rows_of(2000, 64, seed=1, offset=0.0)
    assert mean_gap(queries, positives) == pytest.approx(2 / 2000, rel=0.3)


@pytest.mark.parametrize("measure", [alignment, mean_gap])
def test_pair_measures_are_invariant(measure):
    queries, positives = rows_of(40), rows_of(40, seed=1, offset=-0.1)
    before = measure(queries, positives)
    assert measure(5 * queries, 5 * positives) == pytest.approx(before)
    turn = rotation(8)
    assert measure(queries @ turn, positives @ turn) == pytest.approx(before)
    assert measure(queries.flip(0), positives.flip(0)) == pytest.approx(before)


def test_hubness_is_that_of_the_counts_of_all_passages():
    rng = np.random.default_rng(0)
    ranked = [list(rng.permutation(40)[:12]) for _ in range(30)] + [[3, 4, *range(10, 18)]] * 20
    counts = np.zeros(50)
    for found in ranked:
        counts[found[:10]] += 1
    measured = hubness(ranked, passages=50)
    assert measured.skewness == pytest.approx(skew(counts))
    assert measured.anti_hub_share == pytest.approx(np.mean(counts == 0))
    assert (measured.most, measured.mean) == (counts.max(), pytest.approx(10))
    assert (measured.k, measured.queries, measured.passages) == (10, 50, 50)


def test_one_hub_among_many_passages():
    measured = hubness([["a"]] * 5, passages=4, k=1)
    # counts 5, 0, 0, 0: mean 5/4, deviations 15/4 and three times -5/4
    assert measured.skewness == pytest.approx(((15**3 - 3 * 5**3) / 4) / ((15**2 + 75) / 4) ** 1.5)
    assert measured.anti_hub_share == 3 / 4
    assert measured.most == 5


def test_chance_is_that_of_lists_drawn_at_random():
    rng = np.random.default_rng(1)
    drawn = [
        hubness([list(rng.permutation(60)[:10]) for _ in range(25)], passages=60)
        for _ in range(200)
    ]
    assert np.mean([d.skewness for d in drawn]) == pytest.approx(
        drawn[0].skewness_of_chance, abs=0.05
    )
    assert np.mean([d.anti_hub_share for d in drawn]) == pytest.approx(
        drawn[0].anti_hub_share_of_chance, abs=0.005
    )


def test_passages_that_all_occur_equally_often_have_no_skewness():
    measured = hubness([["a", "b"], ["b", "a"]], passages=2, k=2)
    assert measured.skewness is None
    assert measured.anti_hub_share == 0


def test_the_order_of_queries_and_the_names_of_passages_mean_nothing():
    ranked = [["a", "b"], ["a", "c"], ["d", "a"]]
    renamed = [[{"a": 0, "b": 1, "c": 2, "d": 3}[name] for name in found] for found in ranked]
    assert hubness(ranked, passages=9, k=2) == hubness(renamed[::-1], passages=9, k=2)


@pytest.mark.parametrize(
    ("ranked", "passages", "message"),
    [([], 5, "no rankings"), ([["a"]], 0, "have no hubs"), ([["a", "b"]], 1, "2 passages of 1")],
)
def test_rankings_without_a_meaning_are_refused(ranked, passages, message):
    with pytest.raises(ValueError, match=message):
        hubness(ranked, passages=passages)
