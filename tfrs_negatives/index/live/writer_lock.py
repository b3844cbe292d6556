"""One writer of a directory at a time."""

from __future__ import annotations

import fcntl
import os


class WriterLock:
    """A lock that the system drops when its process ends, however it ends.

    Args:
      folder: What is written.

    Raises:
      ValueError: Somebody else writes there.
    """

    def __init__(self, folder: str) -> None:
        self._file = os.open(
            os.path.join(folder, "writer.lock"), os.O_RDWR | os.O_CREAT, 0o644
        )
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._file, 100, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise ValueError(
                f"{folder!r} must have one writer, and {owner or 'another'} writes "
                f"there ({error.strerror}). Close that one, or open this with "
                "read_only=True."
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()}".encode(), 0)

    def release(self) -> None:
        """Drops the lock."""
        os.close(self._file)
