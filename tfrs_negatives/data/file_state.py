"""Whether a file is still the one that reading began with."""

from __future__ import annotations

import math
import time
from typing import Any

from tfrs_negatives.data.table_files import TableFile

# A remote file is looked at once in so many seconds: each look is a message.
_REMOTE_SECONDS = 1.0


class FileState:
    """What tells a file from one that was put in its place or written to since.

    Compared are size, time of the last change, and inode; of remote files what their
    file system says of them, at most once a second. A change that keeps all of these,
    as within one tick of the file system's clock, is not seen.

    Args:
      file: The file.
      source: A phrase that names it, for messages.
    """

    def __init__(self, file: TableFile, source: str) -> None:
        self._file, self._source, self._is_sent = file, source, False
        self._state, self._looked = file.state(), time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Without what another machine cannot use: inode, time of the last look."""
        state = self._state
        sent = state[:2] if isinstance(state, tuple) else state
        return {**self.__dict__, "_state": sent, "_is_sent": True, "_looked": -math.inf}

    def check(self) -> None:
        """Raises `ValueError` if the file has changed or is gone."""
        now = time.monotonic()
        if self._file.system.is_remote and now - self._looked < _REMOTE_SECONDS:
            return
        self._looked = now
        found = self._file.version() if self._is_sent else self._file.state()
        if found != self._state:
            raise ValueError(
                f"Expected {self._source} to stay as it is while it is read, received "
                "another file, or other contents, at that path. Read it again when "
                "nothing writes to it."
            )
