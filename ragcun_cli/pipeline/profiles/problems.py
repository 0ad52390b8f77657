"""Say what is wrong with the values of a profile."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ragcun_cli.spec.errors import ProfileError, did_you_mean
from ragcun_cli.spec.launch_config import SLURM_OPTION, SLURM_TIME, WORD
from ragcun_cli.spec.measuring_config import TEST_NAME, VARIANT
from ragcun_cli.spec.profile import RunProfile
from ragcun_cli.spec.section import NAME, SHA256

Model = TypeVar("Model", bound=BaseModel)

_IN_WORDS = {
    NAME: "a name has lower-case letters, digits, _ and -, and begins with a letter or a digit",
    TEST_NAME: "a data set is a name of lower-case letters, digits, _ and -, or mteb:TASK",
    SHA256: "a sha256 has 64 digits from 0 to f, in lower case",
    VARIANT: "a variant is int8, binary, binary-rescored or truncate-N",
    WORD: "one word is needed, of letters, digits and . _ , : @ % + = / -",
    SLURM_TIME: "a time is minutes, H:M:S or D-H:M:S, as 1-12:00:00",
    SLURM_OPTION: "one option of sbatch is needed, as --exclusive",
}
"""What a value has to look like, by the pattern that it did not match."""

_WRONG = {
    "extra_forbidden": "there is no such key",
    "missing": "it has to be there",
    "int_parsing": "a whole number is needed",
    "float_parsing": "a number is needed",
    "int_type": "a whole number is needed, without quotes or a point",
    "float_type": "a number is needed, without quotes",
    "finite_number": "a finite number is needed",
    "bool_parsing": "true or false is needed",
    "bool_type": "true or false is needed, without quotes",
    "string_type": "a text is needed, in quotes",
    "list_type": "a list is needed, in square brackets",
    "tuple_type": "a list is needed, in square brackets",
    "dict_type": "a table of keys and values is needed",
    "model_type": "a table of keys and values is needed",
    "literal_error": "it has to be {expected}",
    "greater_than": "it has to be above {gt}",
    "greater_than_equal": "it has to be {ge} or more",
    "less_than": "it has to be below {lt}",
    "less_than_equal": "it has to be {le} or less",
    "too_short": "the list needs {min_length} or more",
    "too_long": "the list may have {max_length} at most",
    "string_too_short": "the text is empty",
}
"""What is wrong, by the type of pydantic's error; the first two are of options, which are texts."""

_SHOWN = 100
"""Characters of a value that is not valid."""


def validated(
    model: type[Model], values: dict[str, Any], source: Path | str, *, hint: str | None = None
) -> Model:
    """The values as a profile, a plan or a section of one.

    Args:
        model: of which they are.
        values: to look at.
        source: where they are from.
        hint: how to mend them; none shows the profile.

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
            hint=hint or f"ragcun profile show {name if isinstance(name, str) else 'NAME'}",
        ) from error


def refuse_typed(changes: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Pass if each value of ``--set`` may stand in some profile, whatever else is in it.

    Raises:
        ProfileError: some may in none. They are all named.
    """
    try:
        RunProfile.model_validate({"name": "any", **changes})
    except ValidationError as error:
        known, below = list(_dotted_keys(RunProfile)), tuple(f"{key}." for key in typed)
        keyed = [(".".join(map(str, one["loc"])) + ".", dict(one)) for one in error.errors()]
        wrong = [
            f"--set {_problem(one, known)}"
            for key, one in keyed
            if key.startswith(below)
            or (one["type"] == "extra_forbidden" and any(own.startswith(key) for own in below))
        ]
        if wrong:
            raise ProfileError("\n".join(wrong), hint="ragcun profile schema") from error


def _problem(problem: dict[str, Any], known: Sequence[str]) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "(whole profile)"
    message = in_words(problem)
    if problem["type"] != "extra_forbidden":
        shown = problem["input"]
        given = "" if isinstance(shown, dict) or shown is None else f" (got {_brief(shown)})"
        return f"{key}: {message}{given}"
    close = [full for full in known if full.rpartition(".")[2] == key.rpartition(".")[2]]
    close = close or difflib.get_close_matches(key, known, n=1)
    return f"{key}: {message}{did_you_mean(close)}"


def in_words(problem: Mapping[str, Any]) -> str:
    """What is wrong, of an error as pydantic lists it, in words of our own."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _IN_WORDS[context["pattern"]]
    return str(context["error"]) if kind == "value_error" else _WRONG[kind].format(**context)


def _brief(value: object) -> str:
    """A value as TOML has it, or its beginning."""
    if isinstance(value, bool):
        return str(value).lower()
    with suppress(ValueError, RecursionError):  # whole numbers of thousands of digits have no text
        text = repr(list(value) if isinstance(value, tuple) else value)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "a number of thousands of digits, or lists in lists"


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a profile, sections and their fields, as ``training.sigreg.slices``."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted_keys(field.annotation, f"{prefix}{name}.")
