"""Licences of bases and training sets as they are declared, and where that is stated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ragcun_cli.pipeline.data.sources import NOT_DECLARED
from ragcun_cli.pipeline.encoders.files import reading
from ragcun_cli.pipeline.encoders.find import find_folder
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report.rows import ModelRow
from ragcun_cli.pipeline.report.table import Column, Table
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.profile import EncoderConfig

README = "README.md"
_COLUMNS = {"part": "Part", "name": "Name", "licence": "As declared", "stated": "Stated in"}


def declared_by_base(encoder: EncoderConfig, place: Place) -> dict[str, Any] | None:
    """The metadata of the base's own card; None where it is not here or cannot be read."""
    from huggingface_hub.repocard import metadata_load

    with suppress(EncoderError):
        found = find_folder(encoder, place.workspace, marker="modules.json")
        if found is not None and (found[0] / README).is_file():
            with reading(found[0], "a card"):
                return metadata_load(found[0] / README) or {}
    return None


def licence_of_base(encoder: EncoderConfig, place: Place) -> tuple[str, str]:
    """The licence of a base as declared, and where that is stated."""
    declared = declared_by_base(encoder, place)
    if declared is None:
        return NOT_DECLARED, "no README of it can be read here"
    named = [declared.get(key) for key in ("license", "license_name", "license_link")]
    licence = ", ".join(str(name) for name in named if name)
    return (licence, "README of the base") if licence else (NOT_DECLARED, "not in its README")


def licences_table(rows: Sequence[ModelRow], place: Place) -> Table | None:
    """The licences of what the models of rows are made of; None where that is nothing."""
    runs = [row.run for row in rows]
    encoders = [run.profile.encoder for run in runs if run.reference != "bm25"]
    bases = {config.base: config for config in encoders}
    found = {("Base", name): licence_of_base(config, place) for name, config in bases.items()}
    for run in runs:
        if run.holds_model:
            name = run.profile.data.train
            found["Training set", name] = place.sets.licence(name)
    if not found:
        return None
    return Table(
        key="licences",
        caption="Licences of bases and training sets",
        columns=tuple(Column(key, label) for key, label in _COLUMNS.items()),
        rows=tuple((part, without_home(name), *said) for (part, name), said in found.items()),
        heading_columns=2,
    )
