"""Make the pictures of the README from a workspace in which a plan was reproduced.

    python docs/pictures/make.py WORKSPACE PLAN

writes `reproduce.svg`, what a terminal of 100 columns shows at the end of `ragcun reproduce`, and
`report.png`, the top of the report's page in Chromium, into the folder of this file. Nothing is
computed, and the workspace is seen as `workspace`, so that no picture holds a path of the machine.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.text import Text

from ragcun_cli import console
from ragcun_cli.app import main

HERE = Path(__file__).parent
COLUMNS = 100
PAGE = (1280, 730)
"""Pixels of the page that are shown."""


class Recorder(console.SafeConsole):
    """Keeps what is printed, but for the notes of tables, which fill a screen of their own."""

    def print(self, *objects: object, **more: object) -> None:
        """As a terminal shows it."""
        if not (objects and isinstance(objects[0], Text) and objects[0].style == "dim"):
            super().print(*objects, **more)


def terminal(plan: str) -> str:
    """What the command shows of a finished plan, as SVG."""
    shown = Recorder(
        record=True, file=io.StringIO(), force_terminal=True, width=COLUMNS, highlight=False
    )
    command = ["ragcun", "reproduce", "--profile", plan]
    shown.print(f"$ {' '.join(command)}", style="bold")
    console.out = console.err = shown
    sys.argv = command
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    picture = shown.export_svg(title="ragcun", unique_id="ragcun")
    # A picture in a page loads no fonts.
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.S).replace("Fira Code, ", "")


def page(file: Path, picture: Path) -> None:
    """The top of a web page as PNG, in 64 colours."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed, which shows the report's page")
    size = ",".join(map(str, PAGE))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += [f"--window-size={size}", f"--screenshot={picture}", file.as_uri()]
    subprocess.run([chromium, *words], check=True, capture_output=True)
    Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)


def make(workspace: Path, plan: str) -> None:
    """Both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "workspace").symlink_to(workspace.resolve())
        os.chdir(folder)
        (HERE / "reproduce.svg").write_text(terminal(plan), "utf-8")
        page(workspace.resolve() / "reports" / plan / "report.html", HERE / "report.png")


if __name__ == "__main__":
    HERE = HERE.resolve()
    make(Path(sys.argv[1]).absolute(), sys.argv[2])
