"""Variables that a `.env` file in the working directory sets."""

from __future__ import annotations

import os
import re
from pathlib import Path

_READ = re.compile("HF_TOKEN|HF_HOME|HF_ENDPOINT|WANDB_API_KEY|RAGCUN_[A-Z_]+")
"""Names of those that are taken from it; others are somebody else's."""


def read_dotenv(file: Path) -> None:
    """Set the variables of a file, those apart that are set already; none where it is not there.

    What it holds is never shown: of a line that cannot be read the number is said.
    """
    if not file.is_file():
        return
    from dotenv import dotenv_values

    with file.open(encoding="utf-8", errors="replace") as stream:
        found = dotenv_values(stream=stream)
    for name, value in found.items():
        if value is not None and _READ.fullmatch(name):
            os.environ.setdefault(name, value)
