"""What a data set's folder says of its passages: small files, read without the passages."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.manifest import write_atomically
from ragcun_cli.spec.paths import CORPUS_RECORD, LENDER


@dataclass(frozen=True)
class Contents:
    """What the passages of a data set are, whoever keeps them."""

    passages: int
    sha256: str
    """Of ids, titles and texts in the order of ids."""

    empty: int
    """Passages without title and text."""

    def write(self, folder: Path) -> None:
        """Put it into a data set's folder."""
        write_atomically(folder / CORPUS_RECORD, json.dumps(asdict(self), indent=1) + "\n")


def read_record(folder: Path) -> Contents:
    """What a folder says of its passages.

    Raises:
        DataError: it is no data set that ragcun has stored.
    """
    try:
        return Contents(**json.loads((folder / CORPUS_RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder} holds no passages that ragcun has stored",
            hint=f"ragcun data get {folder.name} --force, or import it again",
        ) from error


def find_lender(folder: Path, datasets: Path) -> Path:
    """Folder of the data set that keeps passages of this one.

    Raises:
        DataError: it is not here with passages of its own, or has others now.
    """
    try:
        lent = json.loads((folder / LENDER).read_text(encoding="utf-8"))
        home, digest = datasets / str(lent["name"]), lent["sha256"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder / LENDER} cannot be read", hint=f"ragcun data get {folder.name} --force"
        ) from error
    here = (home / CORPUS_RECORD).is_file() and not (home / LENDER).exists()
    if not here or read_record(home).sha256 != digest:
        raise DataError(
            f"passages of {folder} are kept with '{home.name}', which "
            + ("has other passages now" if here else "is not here with its own"),
            hint=f"ragcun data get {folder.name} --force",
        )
    return home


def borrow(folder: Path, lender: Path) -> None:
    """Leave passages of a data set with another one, which keeps all of its own itself.

    All of them, unless the folder has ``ROWS``: of the lender's passages followed by its own.
    """
    content = {"name": lender.name, "sha256": read_record(lender).sha256}
    write_atomically(folder / LENDER, json.dumps(content) + "\n")
