"""Variables that a `.env` file in the working directory sets."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ragcun_cli.spec.errors import WorkspaceError

_READ = re.compile("HF_TOKEN|HF_HOME|HF_ENDPOINT|WANDB_API_KEY|RAGCUN_[A-Z_]+")
"""Names of those that are taken from it; others are somebody else's."""


def read_dotenv(file: Path) -> None:
    """Set the variables of a file, those apart that are set already; none where it is not there.

    What it holds is never shown: of a line that cannot be read the number is said.

    Raises:
        WorkspaceError: it cannot be read.
    """
    if not file.is_file():
        return
    from dotenv import dotenv_values

    try:
        found = dotenv_values(file)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise WorkspaceError(
            f"{file.absolute()} cannot be read: {why}", hint="ls -l .env"
        ) from error
    for name, value in found.items():
        if value is not None and _READ.fullmatch(name):
            os.environ.setdefault(name, value)
