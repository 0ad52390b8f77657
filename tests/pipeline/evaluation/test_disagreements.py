"""Where two models disagree most, held against a plain search through all orders of queries."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragcun_cli.core.rankings.metrics import score_queries
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.evaluation.disagreements import find_disagreements
from ragcun_cli.pipeline.evaluation.looked import looked_at
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.rankings import write_run

PASSAGES = {f"p{number:02}": f"text {number}" for number in range(14)}
QUERIES = {f"q{number}": f"query {number}" for number in range(6)}
CORPUS = Corpus.of(PASSAGES)

rankings = st.fixed_dictionaries(
    {
        query: st.lists(st.sampled_from(sorted(PASSAGES)), unique=True, max_size=14)
        for query in QUERIES
    }
)
judgements = st.fixed_dictionaries(
    {
        query: st.dictionaries(
            st.sampled_from([*sorted(PASSAGES), "lost"]), st.integers(-1, 2), min_size=1, max_size=4
        )
        for query in QUERIES
    }
)


def stored(folder, parts, of):
    """What an evaluation leaves of rankings: run files and scores query by query."""
    lines = []
    for part, (qrels, ranked) in parts.items():
        hits = {
            query: [(passage, -float(rank)) for rank, passage in enumerate(found)]
            for query, found in ranked[of].items()
            if found
        }
        write_run(hits, folder / f"runs/{part or 'set'}.trec.gz", tag="x")
        scores = score_queries(qrels, ranked[of])["ndcg@10"]
        mark = {"part": part} if part else {}
        lines += [{"query": query, **mark, "ndcg@10": scores[query]} for query in sorted(qrels)]
    (folder / "per_query.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder


def sets_of(parts):
    return [
        JudgedSet(f"set/{part}" if part else "set", CORPUS, QUERIES, qrels)
        for part, (qrels, _) in parts.items()
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(qrels=judgements, a=rankings, b=rankings, count=st.integers(1, 8), forums=st.booleans())
def test_they_are_the_largest_differences_in_order(tmp_path_factory, qrels, a, b, count, forums):
    names = ["one", "two"] if forums else [""]
    parts = {
        name: (qrels, {"A": a, "B": b} if name != "two" else {"A": b, "B": b}) for name in names
    }
    root = tmp_path_factory.mktemp("evals")
    folders = {of: stored(root / of, parts, of) for of in "AB"}
    found = find_disagreements(sets_of(parts), folders, count)
    assert len(found) == min(count, len(QUERIES) * len(names))
    left = {}
    for name, (_, ranked) in parts.items():
        scores = {of: score_queries(qrels, ranked[of])["ndcg@10"] for of in "AB"}
        for query in QUERIES:
            common = sum(passage in ranked["B"][query][:10] for passage in ranked["A"][query][:10])
            left[name, query] = scores["A"][query], scores["B"][query], common
    for one in found:  # by exhaustion: nothing that is left would have to come before it
        part, _, query = one.query.rpartition("/")
        own = left.pop((part, query))
        assert (one.ndcg["A"], one.ndcg["B"], one.shared) == own
        for (other_part, other), (theirs_a, theirs_b, common) in left.items():
            gap, theirs = abs(own[0] - own[1]), abs(theirs_a - theirs_b)
            assert gap >= theirs - 1e-9
            if gap == theirs:
                assert (own[2], query, part) < (common, other, other_part)
        ranked = parts[part][1]
        for of in "AB":
            assert [hit.passage for hit in one.hits[of]] == ranked[of][query][:10]
            for seen in (*one.hits[of], *one.judged):
                place = (
                    ranked[of][query].index(seen.passage) + 1
                    if seen.passage in ranked[of][query]
                    else None
                )
                assert seen.ranks[of] == place
                assert seen.grade == qrels[query].get(seen.passage)
                assert seen.text == PASSAGES.get(seen.passage)
        assert {seen.passage for seen in one.judged} == qrels[query].keys()


def test_what_is_judged_comes_by_grade_then_by_its_best_rank_then_by_id():
    ranked = {"A": [("p05", 3.0), ("p01", 2.0)], "B": [("p09", 1.0), ("p07", 0.5), ("p01", 0.1)]}
    grades = {"p01": 1, "p03": 1, "p02": 1, "p07": 1, "p09": 2, "p05": 0, "lost": -1}
    found = looked_at("text", CORPUS, ranked, grades)
    assert [one.passage for one in found.judged] == [
        "p09",
        "p01",
        "p07",
        "p02",
        "p03",
        "p05",
        "lost",
    ]
    assert [one.passage for one in found.relevant] == ["p09", "p01", "p07", "p02", "p03"]
    assert found.judged[-1].text is None
    assert found.query is None


def test_nothing_found_and_nothing_judged_is_shown_as_that():
    found = looked_at("text", CORPUS, {"A": [], "B": []}, {})
    assert found.hits == {"A": [], "B": []}
    assert found.judged == []
