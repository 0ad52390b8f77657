"""Store once what two data sets share: FEVER and Climate-FEVER have nearly the same Wikipedia."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragcun_cli.pipeline.data.sets.corpus import Corpus, Passage
from ragcun_cli.pipeline.data.sets.corpus_writer import write_passages
from ragcun_cli.pipeline.data.sets.records import borrow
from ragcun_cli.pipeline.data.sources import PublishedSet
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.spec.paths import LENDER, PASSAGES, ROWS

LARGEST_OWN_SHARE = 0.5


def share_with_like(
    source: PublishedSet, folder: Path, datasets: Path, *, progress: Progress
) -> None:
    """Share the passages of a published set with the one that is like it, where that is here."""
    lender = datasets / source.like if source.like else None
    if lender is not None and (lender / PASSAGES).is_file() and not (lender / LENDER).is_file():
        share_passages(folder, lender, progress=progress)


def share_passages(folder: Path, lender: Path, *, progress: Progress) -> bool:
    """Drop the passages of a stored set that another one has too, id, title and text alike.

    What the set reads is the same as before; its own file keeps the passages that differ.

    Returns:
        Whether that was worth it: more than half of the passages are shared.
    """
    own, lent = Corpus.open(folder), Corpus.open(lender)
    rows = np.empty(len(own), np.int32)
    with progress.bar(f"compare with {lender.name}", total=len(own), unit="passages") as advance:
        start = 0
        for passages in own.blocks():
            rows[start : start + len(passages)] = _rows_of_equals(passages, lent)
            start += len(passages)
            advance(len(passages))
    kept = np.flatnonzero(rows < 0)
    if len(kept) > LARGEST_OWN_SHARE * len(own):
        return False
    rows[kept] = len(lent) + np.arange(len(kept))
    if len(kept):
        write_passages(own.take(kept), folder / PASSAGES)
    else:
        (folder / PASSAGES).unlink()
    np.save(folder / ROWS, rows)
    borrow(folder, lender)
    return True


def _rows_of_equals(passages: list[Passage], lent: Corpus) -> NDArray[np.int64]:
    rows = lent.rows_of([passage.id for passage in passages])
    theirs = lent.passages_of(np.maximum(rows, 0))
    same = [ours[:3] == other[:3] for ours, other in zip(passages, theirs, strict=True)]
    return np.where(same, rows, -1)
