"""Whether a file is still the one that reading began with."""

from __future__ import annotations

import os


class FileState:
    """What tells a file from one that was put in its place or written to since.

    Compared are size, time of the last change, and inode. A change that keeps all
    three, as within one tick of the file system's clock, is not seen.

    Args:
      path: The file.
      source: A phrase that names it, for messages.
    """

    def __init__(self, path: str, source: str) -> None:
        self._path, self._source = path, source
        self._state = _state(path)

    def check(self) -> None:
        """Raises `ValueError` if the file has changed or is gone."""
        if _state(self._path) != self._state:
            raise ValueError(
                f"Expected {self._source} to stay as it is while it is read, received "
                "another file, or other contents, at that path. Read it again when "
                "nothing writes to it."
            )


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
