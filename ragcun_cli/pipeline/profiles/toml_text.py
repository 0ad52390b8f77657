"""Nested values as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def as_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Nested values as TOML; a value that is None, which TOML lacks, becomes a comment."""
    lines = []
    for key, value in values.items():
        if value is None:
            lines.append(f"# {key} is not set")
        elif not isinstance(value, Mapping) and not _is_tables(value):
            lines.append(f"{_key(key)} = {_inline(value)}")
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{prefix}{key}]", as_toml(value, f"{prefix}{key}.").rstrip()]
        elif _is_tables(value):
            for item in value:
                lines += ["", f"[[{prefix}{key}]]", as_toml(item, f"{prefix}{key}.").rstrip()]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_inline(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)
