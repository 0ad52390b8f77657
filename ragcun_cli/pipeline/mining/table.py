"""The closing table of a mining, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FOR_FIGURES = ("positive_within", "score_histogram")
OF_BOTH = ("passages", "depth")
NOT_COUNTED = {
    "rescore": "not counted: no model is named",
    "score_ratio": "not counted: of BM25 scores alone",
}


def lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is counted and how much of it, dev after training; one number or one sentence a line."""
    training = _split({key: value for key, value in summary.items() if key != "dev"})
    if summary["dev"] is None:
        return [*training, ("dev", "none: the set has no dev split")]
    dev = {key: value for key, value in summary["dev"].items() if key not in OF_BOTH}
    return [*training, *((f"dev: {name}", text) for name, text in _split(dev))]


def _split(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        line
        for key, value in summary.items()
        if key not in FOR_FIGURES
        for line in _lines(key, value, summary)
    ]


def _lines(key: str, value: Any, summary: Mapping[str, Any]) -> list[tuple[str, str]]:  # noqa: ANN401
    name = key.replace("_", " ")
    if key == "depth" and value > summary["passages"]:
        return [(name, f"{value:,}: more than there are passages, so all were looked at")]
    if key == "would_drop":
        return [_would_drop(rule, found, summary["queries"]) for rule, found in value.items()]
    if key == "scores":
        return [(f"score of {kind}", _quantiles(found)) for kind, found in value.items()]
    if isinstance(value, dict):
        return [(f"{name}: {rule.replace('_', ' ')}", f"{n:,}") for rule, n in value.items()]
    return [(name, f"{value:,}" if isinstance(value, int) else f"{value}")]


def _would_drop(rule: str, found: Mapping[str, float] | None, queries: int) -> tuple[str, str]:
    words = rule.replace("_", " ")
    if found is None:
        return f"{words} (off)", NOT_COUNTED[rule]
    sampled = f", in a sample of {found['queries']:,} queries" if found["queries"] < queries else ""
    return f"{words} {found['threshold']:g} (off)", f"{found['hits']:,} would go{sampled}"


def _quantiles(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "none"
    return ", ".join(f"{float(share):.0%} {score:.2f}" for share, score in found.items())
