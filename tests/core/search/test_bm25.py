import numpy as np
import pytest

from ragcun_cli.core.search.bm25 import Weights


def test_lucene_weights_by_hand():
    one = np.zeros(1, np.int32)
    weights = Weights.of(
        "lucene", 0.9, 0.4, passages=10, mean_length=4.0, occurrences=np.array([2], np.int32)
    )
    assert weights.idf == pytest.approx([np.log(1 + 8.5 / 2.5)])
    score = weights.scores(one, np.array([3], np.float32), np.array([6], np.int32))
    assert score == pytest.approx([np.log(4.4) * 3 / (3 + 0.9 * (0.6 + 0.4 * 6 / 4))])


def test_terms_in_more_than_half_of_the_passages_are_worth_nothing_to_robertson():
    occurrences = np.array([1, 5, 6, 10], np.int32)
    weights = Weights.of(
        "robertson", 1.2, 0.5, passages=10, mean_length=3.0, occurrences=occurrences
    )
    assert weights.idf.tolist() == [pytest.approx(np.log(9.5 / 1.5)), 0.0, 0.0, 0.0]
