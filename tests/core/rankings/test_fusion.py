"""Reciprocal-rank fusion against sums of fractions, taken one by one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragcun_cli.core.rankings.fusion import fused_ranking

RANKINGS = st.lists(st.sampled_from([f"p{n:02}" for n in range(40)]), unique=True)


def exact(first, second):
    scores = {
        passage: sum(
            Fraction(1, 60 + one.index(passage) + 1) for one in (first, second) if passage in one
        )
        for passage in {*first, *second}
    }
    return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))


def test_by_hand():
    assert fused_ranking(["a", "b", "c"], ["c", "d"]) == [
        ("c", pytest.approx(1 / 63 + 1 / 61)),
        ("a", 1 / 61),
        ("b", 1 / 62),
        ("d", 1 / 62),
    ]


@given(RANKINGS, RANKINGS)
def test_order_and_scores_are_those_of_exact_sums(first, second):
    expected = exact(first, second)
    assert fused_ranking(first, second) == [(passage, float(score)) for passage, score in expected]


@given(RANKINGS, RANKINGS)
def test_which_ranking_comes_first_moves_nothing(first, second):
    assert fused_ranking(first, second) == fused_ranking(second, first)


def test_equal_sums_of_other_ranks_stand_in_order_of_id():
    """1/63 + 1/84 = 2/72 = 1/36, which two rounded quotients need not add up to."""
    places = {"z": (3, 24), "a": (12, 12)}
    rankings = [[f"{side}{n:02}" for n in range(24)] for side in "xy"]
    for passage, ranks in places.items():
        for ranking, rank in zip(rankings, ranks, strict=True):
            ranking[rank - 1] = passage
    order = [passage for passage, _ in fused_ranking(*rankings)]
    assert order[:2] == ["a", "z"]
    scores = dict(fused_ranking(*rankings))
    assert scores["a"] == scores["z"]


def test_a_ranking_without_passages_leaves_the_other_as_it_is():
    assert [passage for passage, _ in fused_ranking(["b", "a"], [])] == ["b", "a"]
    assert fused_ranking([], []) == []
