"""Nested values as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def as_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Nested values as TOML; a value that is None, which TOML lacks, becomes a comment."""
    lines = []
    for key, value in values.items():
        if value is None:
            lines.append(f"# {key} is not set")
        elif not isinstance(value, Mapping) and not _is_tables(value):
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{prefix}{key}]", as_toml(value, f"{prefix}{key}.").rstrip()]
        elif _is_tables(value):
            for item in value:
                lines += ["", f"[[{prefix}{key}]]", as_toml(item, f"{prefix}{key}.").rstrip()]
    return "\n".join(lines) + "\n"


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)
