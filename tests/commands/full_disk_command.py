"""`full_disk_command.py FOLDER BYTES WORDS...`: run ragcun; FOLDER holds so many bytes at most.

No file below it can be opened for writing, and no folder made, once they are there, as if its disk
were full. What libraries open without Python sees that only with the next file.
"""

import errno
import os
import sys
from pathlib import Path

from ragcun_cli.app import main

folder, limit = Path(sys.argv.pop(1)).resolve(), int(sys.argv.pop(1))


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    writes = event == "os.mkdir" or (
        event == "open" and str(arguments[1] or "").startswith(("w", "a", "x"))
    )
    if writes and Path(str(arguments[0])).absolute().is_relative_to(folder):
        files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
        if sum(file.lstat().st_size for file in files if file.is_file()) > limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))


sys.addaudithook(refuse)
main()
