"""KILT's page-level measures against a plain reading of their definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragcun_cli.core.rankings.pages import page_recall, r_precision


@pytest.mark.parametrize(
    ("evidence", "pages", "precision", "recall"),
    [
        ([{"a"}], ["a", "b"], 1, 1),
        ([{"a"}], ["b", "a"], 0, 1),
        ([{"a", "b"}], ["b", "x", "a"], 0.5, 1),
        ([{"a", "b"}, {"c"}], ["a", "c", "x"], 0.5, 0.5),
        ([{"a"}, {"a"}], ["a"], 1, 1),
        ([{"a"}, {"b"}, {"c"}], ["x", "y", "a", "z", "b", "c"], 0, 2 / 3),
        ([{"a", "b"}], ["a", "x", "y", "z", "w", "b"], 0.5, 1),
        ([{"a"}], [], 0, 0),
    ],
)
def test_cases_by_hand(evidence, pages, precision, recall):
    """Of a set only its last page takes a place: the seventh case has b in the fifth."""
    assert r_precision(evidence, pages) == precision
    assert page_recall(evidence, pages, k=5) == pytest.approx(recall)


PAGES = st.sampled_from("abcdefgh")


def by_places(evidence, pages, k):
    """The ranking written out: what of each page is a point, until its set ends further down."""
    sets = [one for n, one in enumerate(evidence) if one not in evidence[:n]]
    points = []
    for at, page in enumerate(pages):
        mine = [one for one in sets if page in one]
        points += [(one, at) for one in mine] or [(None, at)]
    last = {one: max(at for other, at in points if other == one) for one, _ in points}
    places = [(one, at) for one, at in points if one is None or at == last[one]]
    first = [one for one, _ in places[:k]]
    return sum(one is not None and one <= set(pages) for one in first) / len(sets)


@given(
    st.lists(st.frozensets(PAGES, min_size=1, max_size=3), min_size=1, max_size=6),
    st.lists(PAGES, unique=True),
)
def test_measures_are_those_of_the_ranking_written_out(evidence, pages):
    assert page_recall(evidence, pages, k=5) == by_places(evidence, pages, 5)
    precisions = [len(set(pages[: len(one)]) & one) / len(one) for one in evidence]
    assert r_precision(evidence, pages) == max(precisions)
