import numpy as np
import pytest

from ragcun_cli.core.search.postings import best, read_keys

PASSAGES = 200_000  # more than are scored at once


def postings(rng, occurrences, *, scores=None):
    rows = [np.sort(rng.choice(PASSAGES, n, replace=False)) for n in occurrences]
    starts = np.concatenate([[0], np.cumsum(occurrences)])
    drawn = rng.integers(1, 9, starts[-1]) / 8 if scores is None else scores(starts[-1])
    return starts, np.concatenate(rows).astype(np.int32), drawn.astype(np.float32)


def search(index, queries, *, depth, bases=None):
    bases = np.zeros(len(queries), np.float32) if bases is None else np.asarray(bases, np.float32)
    terms = np.concatenate([np.array(query, np.int32) for query in queries])
    ends = np.cumsum([len(query) for query in queries])
    keys = best(terms, ends, bases, *index, PASSAGES, depth)
    return [read_keys(row[row > 0]) for row in -np.sort(-keys, axis=1)]


def brute_force(index, query, *, depth, base=0.0):
    starts, rows, scores = index
    total = np.zeros(PASSAGES, np.float32)
    for term in query:
        part = slice(starts[term], starts[term + 1])
        total[rows[part]] += scores[part]
    found = np.flatnonzero(total > 0)
    total += np.float32(base)
    order = found[np.lexsort((found, -total[found]))][:depth]
    return order, total[order]


@pytest.mark.parametrize("depth", [1, 10, 1000, 60_000])
def test_the_best_rows_are_those_of_a_full_sort_with_ties_in_order_of_row(depth):
    rng = np.random.default_rng(3)
    index = postings(rng, [50_000, 7, 20_000, 1, 300])  # scores are eighths: ties in masses
    queries = [[0, 2], [1], [4, 4, 0], [3, 1, 4], [], [2, 0, 2, 0], [0]]
    for query, (rows, scores) in zip(queries, search(index, queries, depth=depth), strict=True):
        expected, values = brute_force(index, query, depth=depth)
        assert rows.tolist() == expected.tolist()
        assert scores.tolist() == values.tolist()


@pytest.mark.parametrize("base", [0.3, 7.1, 1000.0])
def test_what_is_added_to_all_scores_can_make_ties_which_go_by_row(base):
    rng = np.random.default_rng(4)
    index = postings(rng, [30_000, 9_000], scores=lambda n: rng.random(n) * 1e-3 + 1e-6)
    found = search(index, [[0, 1], [1, 1]], depth=50, bases=[base, base])
    for query, (rows, scores) in zip([[0, 1], [1, 1]], found, strict=True):
        expected, values = brute_force(index, query, depth=50, base=base)
        assert rows.tolist() == expected.tolist()
        assert scores.tolist() == values.tolist()
    assert base < 1000 or len(set(scores.tolist())) < len(rows)
