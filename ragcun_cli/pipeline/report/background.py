"""What a page says beside tables and figures."""

from __future__ import annotations

from dataclasses import dataclass

from ragcun_cli.pipeline.report.table import Table


@dataclass(frozen=True)
class Recipe:
    """How the runs of one row are made again."""

    label: str
    command: str
    profile: str = ""
    """TOML of the file that the command names."""


@dataclass(frozen=True)
class Background:
    """The answer to what was asked, and where the numbers come from."""

    answers: tuple[str, ...] = ()
    """One sentence for each group of rows that share a table; first on the page."""

    warnings: tuple[str, ...] = ()
    """What has to be known before any number is believed."""

    software: tuple[str, ...] = ()
    """Versions and hardware, each with the runs that they are of."""

    runs: Table | None = None

    digests: str = ""
    """Of weights and data sets, as `sha256sum` writes them; those that lie elsewhere after a #."""

    recipes: tuple[Recipe, ...] = ()
