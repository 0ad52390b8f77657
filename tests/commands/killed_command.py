"""`killed_command.py WHERE WORDS...`: run ragcun, and die there.

WHERE is a pattern of the path, below the working directory, of a file that is about to be written;
or a number: before that many files and folders below it were renamed, removed or made.
"""

import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path

from ragcun_cli.app import main

where = sys.argv.pop(1)
pattern = str(Path.cwd() / where)
left = int(where) if where.isdecimal() else -1


def count(event: str, arguments: tuple[object, ...]) -> None:
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
        left -= Path(str(arguments[0])).absolute().is_relative_to(Path.cwd())
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def die(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not str(arguments[1]).startswith(("w", "a", "x")):
        return
    if fnmatch(str(Path.cwd() / str(arguments[0])), pattern):
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(count if where.isdecimal() else die)
main()
