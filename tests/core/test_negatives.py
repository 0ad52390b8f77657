from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragcun_cli.core.negatives import Negatives, choose_negatives

IDS = [f"p{number:02}" for number in range(60)]


def choose(candidates=IDS[:20], **changes):
    arguments = {
        "excluded": (),
        "pool": IDS,
        "count": 4,
        "hard_share": 0.5,
        "skip_top": 0,
        "seed": 1,
        "query_id": "q",
    }
    return choose_negatives(candidates, **(arguments | changes))


@st.composite
def problems(draw):
    return {
        "candidates": draw(st.permutations(IDS))[: draw(st.integers(0, 30))],
        "excluded": draw(st.lists(st.sampled_from(IDS), max_size=30, unique=True)),
        "pool": draw(st.permutations(IDS)),
        "count": draw(st.integers(1, 30)),
        "hard_share": draw(st.sampled_from([0.0, 0.1, 0.29, 0.5, 0.7, 1.0])),
        "skip_top": draw(st.integers(0, 10)),
        "seed": draw(st.integers(-3, 10**12)),
        "query_id": draw(st.text()),
    }


@settings(max_examples=300, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_negatives_are_as_asked_for(problem, shuffler):
    chosen = choose_negatives(**problem)
    everything = [*chosen.hard, *chosen.random]
    assert len(everything) == len(set(everything)) == problem["count"]
    assert not set(everything) & set(problem["excluded"])
    eligible = set(problem["candidates"][problem["skip_top"] :]) - set(problem["excluded"])
    assert set(chosen.hard) <= eligible
    share = problem["count"] * problem["hard_share"]
    assert len(chosen.hard) == len(eligible) or abs(len(chosen.hard) - share) < 1 - 1e-6
    excluded = list(problem["excluded"])
    shuffler.shuffle(excluded)
    for same in (set(excluded), excluded, frozenset(excluded)):
        assert choose_negatives(**problem | {"excluded": same}) == chosen


@pytest.mark.parametrize(
    ("count", "hard_share", "hard"), [(10, 0.5, 5), (100, 0.29, 29), (3, 1, 3)]
)
def test_a_whole_share_is_met_to_the_last(count, hard_share, hard):
    pool = [str(number) for number in range(1000)]
    for query in range(50):
        chosen = choose(
            pool[:100], pool=pool, count=count, hard_share=hard_share, query_id=str(query)
        )
        assert (len(chosen.hard), len(chosen.random)) == (hard, count - hard)


@pytest.mark.parametrize(
    ("count", "hard_share", "extra"), [(7, 0.5, 0.5), (1, 0.5, 0.5), (5, 0.25, 0.25)]
)
def test_the_odd_negative_is_hard_for_its_share_of_the_queries(count, hard_share, extra):
    sizes = Counter(
        len(choose(count=count, hard_share=hard_share, query_id=str(query)).hard)
        for query in range(2000)
    )
    lower = int(count * hard_share)
    assert set(sizes) == {lower, lower + 1}
    assert sizes[lower + 1] / 2000 == pytest.approx(extra, abs=0.04)


def test_the_same_query_and_seed_give_the_same_negatives_everywhere():
    assert choose() == Negatives(hard=("p00", "p08"), random=("p49", "p18"))


def test_another_seed_or_query_gives_other_negatives():
    others = {choose(seed=2), choose(query_id="r"), choose(seed=11, query_id="q")}
    assert choose() not in others
    assert len(others) == 3


def test_every_candidate_and_every_passage_is_as_likely_as_any_other():
    hard, random = Counter(), Counter()
    for query in range(6000):
        chosen = choose(skip_top=10, excluded=IDS[10:12], query_id=str(query))
        hard.update(chosen.hard)
        random.update(chosen.random)
    assert set(hard) == set(IDS[12:20])
    assert all(times == pytest.approx(6000 * 2 / 8, rel=0.12) for times in hard.values())
    assert set(random) == set(IDS) - set(IDS[10:12])
    never_hard = [random[passage] for passage in [*IDS[:10], *IDS[20:]]]
    assert all(times == pytest.approx(6000 * 2 / 56, rel=0.35) for times in never_hard)


def test_skipped_ranks_are_counted_before_exclusions():
    chosen = choose(["a", "b", "c"], excluded=["c"], skip_top=1, count=2, hard_share=1)
    assert chosen.hard == ("b",)


def test_random_negatives_fill_the_places_of_missing_candidates():
    assert (len(choose([]).hard), len(choose([]).random)) == (0, 4)
    few = choose(["a", "b", "c"], excluded=["a", "c"], pool=["a", "b", "c", "d", "e", "f"])
    assert few.hard == ("b",)
    assert set(few.random) == {"d", "e", "f"}


def test_the_pool_may_be_used_to_its_last_passage_and_not_beyond():
    problem = {"candidates": IDS[:5], "pool": IDS[:20], "excluded": IDS[3:10], "hard_share": 0.5}
    chosen = choose(**problem, count=13)
    assert {*chosen.hard, *chosen.random} == {*IDS[:3], *IDS[10:20]}
    message = "'q' needs 11 random negatives, but the pool of 20 passages has 10 "
    with pytest.raises(ValueError, match=message):
        choose(**problem, count=14)


def test_a_large_pool_is_neither_copied_nor_scanned():
    class Pool(Sequence):
        """Eight million ids that count how often they are read."""

        reads = 0

        def __len__(self):
            return 8_800_000

        def __getitem__(self, place):
            Pool.reads += 1
            return f"p{place}"

    for query in range(200):
        choose(pool=Pool(), count=8, query_id=str(query))
    assert 200 * 4 <= Pool.reads < 200 * 6


def test_arguments_that_mean_nothing_are_refused():
    for changes, message in (
        ({"count": 0}, "count is 0"),
        ({"hard_share": 1.5}, "hard_share is 1.5"),
        ({"hard_share": float("nan")}, "hard_share is nan"),
        ({"skip_top": -1}, "skip_top is -1"),
        ({"candidates": ["a", "a"]}, "a passage twice"),
    ):
        with pytest.raises(ValueError, match=message):
            choose(**changes)
