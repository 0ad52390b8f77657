"""The tables of the `data` commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ragcun_cli import console

if TYPE_CHECKING:
    from ragcun_cli.pipeline.reproduce.data_sets import Listing, SetDetails


def show_listing(found: Listing) -> None:
    """All known sets, and how to come by those that cannot be downloaded."""
    rows = [
        (
            row["name"],
            "verified" if row["verified"] else row["state"],
            "" if row["passages"] is None else f"{row['passages']:,}",
            "" if row["queries"] is None else f"{row['queries']:,} {row['split']}",
            f"{row['description']} ({row['licence']})",
        )
        for row in found.rows
    ]
    columns = ("name", "state", "passages", "queries", "what it is (licence)")
    console.show_rows("Data sets", columns, rows)
    for name, needs in found.to_obtain.items():
        console.say(f"{name} needs {needs}; then ragcun data import FOLDER --name {name}")


def show_sets(details: SetDetails) -> None:
    """Sets that were brought or checked."""
    for name, found in details.items():
        for note in found.get("notes", ()):
            console.say(f"{name}: {note}")
    rows = [
        (
            name,
            f"{found['passages']:,}",
            f"{found['queries']:,}",
            ", ".join(f"{split} {count:,}" for split, count in found["judged"].items()),
            found.get("verified", ""),
        )
        for name, found in details.items()
    ]
    columns = ("name", "passages", "queries", "judged queries", "as published")
    console.show_rows("Data sets", columns, rows)
    for name, found in details.items():
        made = found.get("proxy", found)
        _show_counts(name, made.get("counts", {}))
        if "give_aways" in made:
            console.say(f"{name}: {made['give_aways']:,} copies of queries taken out of passages")


def _show_counts(name: str, counts: Mapping[str, Any]) -> None:
    """What a set was made of, and why the rest was left out."""
    for kind, tally in counts.items():
        left = tally["left_out"].items()
        rows = [(f"{one['count']:,}", why, one["first"][:60]) for why, one in left]
        rows = [(f"{tally['used']:,}", "used", ""), *rows]
        console.show_rows(f"{name}: {tally['seen']:,} {kind}", ("", "", "the first"), rows)


def show_stats(found: SetDetails) -> None:
    """What sets consist of, and what of them stands in training data."""
    for label, values in found.items():
        _show_statistics(label, values["statistics"])
        _show_counts(label, values["made"])
        for note in values["notes"]:
            console.say(note)
        for encoder, shares in values["unknown_tokens"].items():
            known = ", ".join(f"{share:.1%} in {kind}" for kind, share in shares.items())
            console.say(f"tokens that the tokenizer of {encoder} does not know: {known}")
        for encoder, shares in values["longer_texts"].items():
            cut = ", ".join(f"{share:.1%} of {kind}" for kind, share in shares.items())
            console.say(f"longer than {encoder} reads, and cut there: {cut}")
        if "overlap" in values:
            _show_overlap(label, values["overlap"])


def _show_statistics(name: str, found: Mapping[str, Any]) -> None:
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


def _show_overlap(name: str, found: Mapping[str, Any]) -> None:
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
