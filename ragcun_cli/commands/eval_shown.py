"""What `ragcun eval` shows on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from ragcun_cli.console import show_rows, width, write

if TYPE_CHECKING:
    from ragcun_cli.pipeline.evaluation.looked import Looked, SeenPassage

SHOWN = ("ndcg@10", "recall@10", "recall@100", "recall@1000", "mrr@10", "map@1000", "judged@10")
"""Metrics of the terminal's table; JSON has all."""

SNIPPET = 160
"""Characters of a text that are shown of it."""

NARROWEST, MOST_BESIDE = 45, 3
"""Letters that a column of hits takes, and how many of them stand side by side."""

FEW = 3
"""Passages that are shown of each of many queries, of each model and of those that are judged."""


def show_scores(found: Sequence[Mapping[str, Any]] | None) -> None:
    """Means of every run on every data set."""
    if found is None:
        return
    metrics = [name for name in SHOWN if any(name in one["metrics"] for one in found)]
    rows = [
        (one["run"], one["dataset"], *(_score(one["metrics"].get(name)) for name in metrics))
        for one in found
    ]
    show_rows("Evaluated", ("run", "data set", *metrics), rows)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def show_comparisons(found: Sequence[Mapping[str, Any]]) -> None:
    """Scores of bases beside published ones."""
    from ragcun_cli.pipeline.evaluation.baseline import TOLERANCE

    rows = [
        (
            one["dataset"],
            *(f"{one[key]:.5f}" for key in ("measured", "published")),
            f"{one['difference']:+.5f}",
            "ok" if one["within"] else "off",
        )
        for one in found
    ]
    columns = ("data set", "nDCG@10", "published", "difference", "")
    show_rows(f"Untouched base, tolerance {TOLERANCE:g}", columns, rows)


def show_looked(found: Sequence[Looked], dataset: str) -> None:
    """Hits of models, side by side where there is room, and what is judged for the queries."""
    for number, one in enumerate(found, 1):
        letters = dict(zip(one.hits, ascii_uppercase, strict=False))
        text = " ".join(one.text.split())
        title = f"{dataset}: {text}"
        if one.ndcg is not None:
            scores = ", ".join(f"{letters[label]} {score:.3f}" for label, score in one.ndcg.items())
            title = f"{number} of {len(found)}, query {one.query}: {text}\n"
            title += f"nDCG@10: {scores}; {one.shared} of the first 10 in common"
        if one.judged:
            _show_judged(title, one, letters)
        cells = {
            f"{letters[label]}  {label}": [
                _hit(hit, label, letters) for hit in hits[: FEW if one.ndcg else None]
            ]
            for label, hits in one.hits.items()
        }
        beside = len(letters) <= MOST_BESIDE and width() >= 3 + len(letters) * (NARROWEST + 3)
        for heads in [list(cells)] if beside else [[head] for head in cells]:
            places = zip_longest(*(cells[head] for head in heads), fillvalue="")
            rows = [(f"{rank}", *row) for rank, row in enumerate(places, 1)]
            show_rows("" if one.judged else title, ("", *heads), rows)
    if len(found[0].hits) > 1:
        write("B4: model B has the same passage in place 4; B–: it is not in B's ranking.")


def _show_judged(title: str, one: Looked, letters: Mapping[str, str]) -> None:
    rows = [
        (f"{seen.grade}", seen.passage, *map(_place, seen.ranks.values()), _text(seen))
        for seen in one.relevant[:FEW]
    ]
    counts = f"judged: {len(one.judged)}, relevant: {len(one.relevant)}"
    if len(one.relevant) > FEW:
        counts += f", of which {FEW} are shown"
    columns = ("grade", "passage", *letters.values(), "text")
    show_rows(f"{title}\n{counts}", columns, rows)


def _hit(hit: SeenPassage, own: str, letters: Mapping[str, str]) -> str:
    there = "".join(
        f"  {letters[label]}{_place(rank)}" for label, rank in hit.ranks.items() if label != own
    )
    mark = ""
    if hit.grade is not None:
        mark = f"  relevant, grade {hit.grade}" if hit.grade > 0 else "  not relevant"
    return f"{hit.passage}  {hit.score:.4g}{there}{mark}\n{_text(hit)}"


def _place(rank: int | None) -> str:
    return "–" if rank is None else f"{rank}"


def _text(seen: SeenPassage) -> str:
    text = "not in the corpus" if seen.text is None else " ".join(seen.text.split())
    return text if len(text) <= SNIPPET else f"{text[:SNIPPET]}…"
