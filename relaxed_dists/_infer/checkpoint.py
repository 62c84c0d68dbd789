"""Writing a file all at once, for the checkpoints of both AnnealedSVI classes."""

import os
from collections.abc import Callable
from typing import BinaryIO


def write(path: str | os.PathLike[str], save: Callable[[BinaryIO], object]) -> None:
    """Replace a file: a process that is killed meanwhile leaves the old one as it was.

    Args:
        path: The file, which may exist.
        save: Writes the new content into a binary file.
    """
    path = os.path.realpath(path)  # os.replace would put the file in place of a link
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with no content
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
