"""What the sections of a profile have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LARGEST = (1 << 32) - 1
"""Whole number of a profile: what every library takes for a seed, and more than any size."""

NAME = r"^[a-z0-9][a-z0-9_-]*$"
SHA256 = r"^[0-9a-f]{64}$"
Sha256 = Annotated[str, Field(pattern=SHA256)]


class Section(BaseModel):
    """A frozen part of a profile. An unknown key is an error, never ignored.

    TOML has no null: ``"none"`` unsets a key that may be unset. Its lists are tuples here.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_toml_has_it(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        field = cls.model_fields[str(info.field_name)]
        if value == "none" and type(None) in get_args(field.annotation):
            return None
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"no whole number here is larger than {LARGEST:,}")
        return tuple(value) if isinstance(value, list) else value


def stated(section: Section) -> dict[str, Any]:
    """The values of a section that differ from their defaults, as JSON.

    Digests are taken of this, so that a key added later, with a default that changes nothing, makes
    no finished run stale. A default that changes is a **Numbers** line and a raised
    `numbers_version`; a test holds every default in place until then.
    """
    return section.model_dump(mode="json", exclude_defaults=True)


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names: ``{"training.scale": 20}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
