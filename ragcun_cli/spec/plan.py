"""Plans: the experiments, references and seeds of one results table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ragcun_cli.spec.profile import RunProfile
from ragcun_cli.spec.section import NAME, Section

REFERENCES_ONCE_CALLED = {"untouched_pca": "untouched_start"}
"""Old name of a reference -> its name, in plans and in the files of old runs."""

Reference = Annotated[
    Literal["untouched", "untouched_start", "bm25"],
    BeforeValidator(lambda name: REFERENCES_ONCE_CALLED.get(name, name)),
]
"""Rows that nothing was trained for: the base encoder as published; the base behind the untrained
linear head that every experiment starts from, rotation included; and BM25."""


class PlanFile(Section):
    """A plan as its TOML file states it."""

    name: str = Field(pattern=NAME)
    description: str = ""

    experiments: Annotated[tuple[str, ...], Field(min_length=1)]
    """Profiles by name or path, in the order of the table's rows."""

    references: tuple[Reference, ...] = ("untouched",)
    """Rows above the experiments."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (1,)
    """Each experiment is trained once for each seed."""

    overrides: dict[str, Any] = Field(default_factory=dict)
    """Values laid over every experiment, in the shape of a profile."""

    @model_validator(mode="after")
    def _listed_once(self) -> Self:
        for field in ("experiments", "references", "seeds"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"{field} names the same one twice")
        if {"name", "extends"} & set(self.overrides):
            raise ValueError("overrides cannot change name or extends")
        return self


@dataclass(frozen=True)
class PaperPlan:
    """A plan with its experiments resolved."""

    name: str
    description: str
    experiments: tuple[RunProfile, ...]
    references: tuple[Reference, ...]
    seeds: tuple[int, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets of the results table; the same for every experiment."""
        return self.experiments[0].evaluation.datasets
