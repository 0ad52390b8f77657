"""`killed_command.py FILE WORDS...`: run ragcun, and die where a file is about to be written.

FILE is a pattern of its path below the working directory.
"""

import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path

from ragcun_cli.app import main

pattern = str(Path.cwd() / sys.argv.pop(1))


def die(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not str(arguments[1]).startswith(("w", "a", "x")):
        return
    if fnmatch(str(Path.cwd() / str(arguments[0])), pattern):
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(die)
main()
