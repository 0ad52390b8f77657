"""Training rows with the numbers by which judged passages are told from negatives."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from ragcun_cli.core.losses import judged_elsewhere
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.training.examples import judged_pairs, write_examples
from ragcun_cli.spec.errors import DataError

COUNT = 40
TEXTS = {f"p{number}": f"a text of {number % 37}" for number in range(60)}  # 23 copies
QUERIES = {f"q{number}": f"what is {number % 38}" for number in range(COUNT)} | {
    "q7": "a text of 7"  # a query that has the words of a passage
}


def grades(number):
    """Four passages of a query, of which one is judged not to be relevant."""
    return {f"p{(number * step + step) % 60}": int(step != 3) for step in (1, 3, 7, 11)}


QRELS = {f"q{number}": grades(number) for number in range(COUNT)}


def positive(query):
    return max(QRELS[query], key=lambda passage: (QRELS[query][passage], passage))


@pytest.fixture
def written(tmp_path):
    beir.write_set(tmp_path / "set", corpus=TEXTS, queries=QUERIES, qrels={"train": QRELS})
    corpus = Corpus.open(tmp_path / "set")
    names, rows = sorted(TEXTS), []
    for place, query in enumerate(QUERIES):
        others = [name for name in names if QRELS[query].get(name, 0) <= 0]
        hard, random = others[(place * 5) % 50], others[(place * 11 + 3) % 50]
        row = {"query": query, "positive": positive(query), "hard": [hard], "random": [random]}
        rows.append(json.dumps(row))
    (tmp_path / "negatives.jsonl").write_text("\n".join(rows) + "\n")
    file = tmp_path / "examples.arrow"
    write_examples(corpus, QUERIES, tmp_path / "negatives.jsonl", file)
    return Dataset.from_file(str(file)), judged_pairs(corpus, QUERIES, QRELS)


def judged(query, passage):
    """Whether some query of this text has some passage of that text judged relevant."""
    return any(
        QUERIES[name] == QUERIES[query] and TEXTS[other] == TEXTS[passage] and grade > 0
        for name, of_it in QRELS.items()
        for other, grade in of_it.items()
    )


def test_all_that_is_judged_relevant_is_masked_and_nothing_else(written):
    rows, pairs = written
    assert rows.num_rows == COUNT
    numbers = torch.tensor(rows["label"])
    passages = numbers[:, 1:].T.flatten()
    mask = judged_elsewhere(numbers[:, 0], passages, torch.from_numpy(pairs))
    columns = [name for column in zip(*rows["passage_ids"], strict=True) for name in column]
    by_id = by_text = 0
    for row, query in enumerate(rows["query_id"]):
        for place, name in enumerate(columns):
            expected = place != row and judged(query, name)
            assert mask[row, place] == expected, (query, name)
            by_text += expected
            if place != row and QRELS[query].get(name, 0) > 0:
                assert mask[row, place]
                by_id += 1
    assert 0 < by_id < by_text < COUNT * len(columns) / 2


def test_pairs_are_sorted_each_once(written):
    _, pairs = written
    assert pairs.dtype == np.int64
    assert (np.diff(pairs) > 0).all()
    assert pairs[0] > 0, "a query's number is another than that of a passage of its text"


def test_rows_that_a_selection_took_all_are_said_to_be_so(written, tmp_path):
    negatives, corpus = tmp_path / "negatives.jsonl", Corpus.open(tmp_path / "set")
    file = tmp_path / "none.arrow"
    with pytest.raises(DataError, match=f"selection takes the queries of all {COUNT}") as caught:
        write_examples(corpus, QUERIES, negatives, file, without=set(QUERIES))
    assert "training.selection.queries" in caught.value.hint
    negatives.write_text("")
    with pytest.raises(DataError, match=r"no rows to train on are left of .*negatives\.jsonl$"):
        write_examples(corpus, QUERIES, negatives, file)
