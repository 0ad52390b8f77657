"""`unprivileged_commands.py COMMANDS`: run some commands of ragcun as one to whom modes apply.

COMMANDS is a JSON list of lists of words; the answer is a JSON list of exit code, standard output
and standard error of each. Root gives up its right to pass over the modes of files first.
"""

import ctypes
import io
import json
import os
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout

from ragcun_cli.app import main

VERSION_3 = 0x20080522


def give_up_privileges() -> None:
    """Of this thread and all that it starts."""
    header, no_rights = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, no_rights):
        raise OSError(ctypes.get_errno(), "capset")


def run(words: list[str]) -> tuple[int, str, str]:
    sys.argv = ["ragcun", *words]
    code = 0
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except Exception:  # noqa: BLE001
            code = -1
            traceback.print_exc()
    return code, out.getvalue(), err.getvalue()


if os.geteuid() == 0:
    give_up_privileges()
commands = json.loads(sys.argv[1])
sys.stdout.write(json.dumps([run(words) for words in commands]))
