"""Training examples: the mined rows with their texts, in an Arrow file that is memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ragcun_cli.pipeline.data.sets.beir import Qrels
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.mining.rows import MinedRow, read_rows
from ragcun_cli.spec.errors import DataError

ID_COLUMNS = ["query_id", "passage_ids"]
_ROWS_AT_ONCE = 10_000
_QUERY = b"query"


def write_examples(
    corpus: Corpus,
    queries: Mapping[str, str],
    negatives: Path,
    file: Path,
    *,
    without: Collection[str] = (),
) -> None:
    """Write the rows of a mining as sentence-transformers reads them, one block in memory.

    Columns: ``query``, ``positive``, ``negative_1`` ... as texts; ``label``, a number for the query
    and for each passage of the row, the same for the same text; ``query_id`` and ``passage_ids``.

    Args:
        corpus: of the training set.
        queries: of the training set.
        negatives: the mined rows.
        file: where the examples go.
        without: ids of queries to leave out.

    Raises:
        DataError: no rows are left, or one names a passage that is not in the corpus.
    """
    mined = 0

    def kept() -> Iterator[MinedRow]:
        nonlocal mined
        for row in read_rows(negatives):
            mined += 1
            if row.query not in without:
                yield row

    sink: Any = None
    with pa.OSFile(str(file), "wb") as stream:
        for columns in _blocks(kept(), corpus, queries):
            table = pa.table(columns)
            sink = sink or pa.ipc.new_stream(stream, table.schema)
            sink.write_table(table)
        if sink is None:
            taken = f", as training.selection takes the queries of all {mined:,}" if mined else ""
            raise DataError(
                f"no rows to train on are left of {negatives}{taken}",
                hint="--set training.selection.queries=N, fewer" if mined else None,
            )
        sink.close()


def _blocks(
    rows: Iterator[MinedRow], corpus: Corpus, queries: Mapping[str, str]
) -> Iterator[dict[str, Sequence[Any]]]:
    while block := list(islice(rows, _ROWS_AT_ONCE)):
        ids = [(row.positive, *row.hard, *row.random) for row in block]
        texts = [corpus.texts_by_id(column) for column in zip(*ids, strict=True)]
        columns: dict[str, Sequence[Any]] = {"query": [queries[row.query] for row in block]}
        for number, column in enumerate(texts):
            columns[f"negative_{number}" if number else "positive"] = column
        numbers = [[_number(query, _QUERY) for query in columns["query"]]]
        numbers += [list(map(_number, column)) for column in texts]
        columns["label"] = list(zip(*numbers, strict=True))
        columns["query_id"] = [row.query for row in block]
        columns["passage_ids"] = ids
        yield columns


def judged_pairs(corpus: Corpus, queries: Mapping[str, str], qrels: Qrels) -> NDArray[np.int64]:
    """``(n,)`` numbers of the pairs judged relevant, sorted: query's and passage's, exclusive or.

    By texts: a copy of a relevant passage is relevant, to a copy of the query, too.
    """
    pairs: list[int] = []
    judged = iter(qrels.items())
    while block := list(islice(judged, _ROWS_AT_ONCE)):
        relevant = [(query, name) for query, grades in block for name in grades if grades[name] > 0]
        ids = sorted({name for _, name in relevant})
        numbers = dict(zip(ids, map(_number, corpus.texts_by_id(ids)), strict=True))
        pairs += [_number(queries[query], _QUERY) ^ numbers[name] for query, name in relevant]
    return np.unique(np.array(pairs, dtype=np.int64))


def _number(text: str, kind: bytes = b"") -> int:
    """63 bits of the text's digest, others for a query than for a passage of the same text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=kind).digest()
    return int.from_bytes(digest) >> 1
