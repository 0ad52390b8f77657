"""What a mining leaves, for tests that compare it."""


def contents(folder):
    """Path below the folder -> bytes; not how files were parted, which lists of blocks say."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".blocks")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
