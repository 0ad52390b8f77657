"""The tables of `ragcun data stats`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragcun_cli import console


def show_statistics(name: str, found: Mapping[str, Any]) -> None:
    """Texts and judgements of one set."""
    texts = {"passages": found["passages"], "queries": found["queries"]}
    rows = [
        ("texts", *(f"{kind['count']:,}" for kind in texts.values())),
        *(
            (
                f"{unit}, {measure.replace('_', ' ')}",
                *(_length(k, unit, measure) for k in texts.values()),
            )
            for unit in ("words", "characters")
            for measure in ("mean", "median", "percentile_95", "max")
        ),
        *(
            (label, *(f"{kind[key]:,}" for kind in texts.values()))
            for key, label in (
                ("empty", "without text"),
                ("duplicates", "with the words of an earlier one"),
                ("duplicate_groups", "different texts that stand more than once"),
            )
        ),
    ]
    console.show_rows(name, ("", *texts), rows)
    splits = found["splits"]
    keys = {
        "queries": "judged queries",
        "pairs": "judged pairs",
        "relevant_pairs": "relevant pairs",
        "pairs_per_query": "judged a query",
        "relevant_per_query": "relevant a query",
        "queries_without_relevant": "queries without a relevant passage",
        "unknown_judged": "judged passages not in the corpus",
        "grades": "pairs by grade",
    }
    judged = [
        (label, *(_cell(splits[split][key]) for split in splits)) for key, label in keys.items()
    ]
    console.show_rows(f"{name}: judgements", ("", *splits), judged)


def show_overlap(name: str, found: Mapping[str, Any]) -> None:
    """What of a test stands in training data."""
    counts = [
        ("queries with the words of a training query", "same_queries", "queries"),
        (f"queries {found['near']:.0%} or more alike", "near_queries", "queries"),
        (
            "relevant passages that are training positives",
            "same_relevant_passages",
            "relevant_passages",
        ),
    ]
    if found["train"] != name:  # of one set, its training positives are in it by construction
        counts.append(("passages that are training positives", "same_passages", "passages"))
    rows = [
        (label, f"{found[key]:,}", f"{found[whole]:,}", f"{found[key] / max(1, found[whole]):.1%}")
        for label, key, whole in counts
    ]
    title = f"{name}: its {found['split']} in the training data of {found['train']}"
    console.show_rows(title, ("", "found", "of", "share"), rows)
    console.say(
        f"training data: {found['train_queries']:,} queries with {found['train_positives']:,} "
        "relevant passages; paraphrases and translations are not seen"
    )
    if found["examples"]:
        examples = [
            (f"{pair['similarity']:.2f}", pair["test_text"], pair["train_text"])
            for pair in found["examples"]
        ]
        console.show_rows("The most alike", ("alike", "test query", "training query"), examples)


def _length(kind: Mapping[str, Any], unit: str, measure: str) -> str:
    value = kind[unit][measure]
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _cell(value: object) -> str:
    """A count, a mean with its range, or a histogram."""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping) and "mean" in value:
        return f"{value['mean']:,.1f} ({value['min']:,} to {value['max']:,})"
    assert isinstance(value, Mapping)
    return ", ".join(f"{grade}: {count:,}" for grade, count in value.items())
