"""Say what is wrong with the values of a profile."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ragcun_cli.spec.errors import ProfileError
from ragcun_cli.spec.measuring_config import TEST_NAME, VARIANT
from ragcun_cli.spec.section import NAME, SHA256

Model = TypeVar("Model", bound=BaseModel)

_IN_WORDS = {
    NAME: "a name has lower-case letters, digits, _ and -, and begins with a letter or a digit",
    TEST_NAME: "a data set is a name of lower-case letters, digits, _ and -, or mteb:TASK",
    SHA256: "a sha256 has 64 digits from 0 to f, in lower case",
    VARIANT: "a variant is int8, binary, binary-rescored or truncate-N",
}
"""What a value has to look like, by the pattern that it did not match."""


def validated(model: type[Model], values: dict[str, Any], source: Path | str) -> Model:
    """The values as a profile or a plan.

    Raises:
        ProfileError: they are not one. Every problem is named by its dotted key, all at once.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        known = list(_dotted_keys(model))
        problems = [_problem(dict(problem), known) for problem in error.errors()]
        name = values.get("name", "NAME")
        raise ProfileError(
            f"{source} is not valid:\n" + "\n".join(f"  {line}" for line in problems),
            hint=f"ragcun profile show {name if isinstance(name, str) else 'NAME'}",
        ) from error


def _problem(problem: dict[str, Any], known: Sequence[str]) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "(whole profile)"
    if problem["type"] != "extra_forbidden":
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch":
            message = _IN_WORDS[problem["ctx"]["pattern"]]
        shown = problem["input"]
        given = "" if isinstance(shown, dict) or shown is None else f" (got {shown!r})"
        return f"{key}: {message}{given}"
    close = [full for full in known if full.rpartition(".")[2] == key.rpartition(".")[2]]
    close = close or difflib.get_close_matches(key, known, n=1)
    meant = f"; did you mean '{close[0]}'?" if close else ""
    return f"{key}: there is no such key{meant}"


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a profile, sections and their fields, as ``training.sigreg.slices``."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted_keys(field.annotation, f"{prefix}{name}.")
