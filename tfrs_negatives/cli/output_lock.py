"""One writer of an output folder at a time."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import os
import socket
from typing import IO

from tfrs_negatives.cli.command_error import CommandError


class OutputLock:
    """A lock that the system drops when its process ends, however it ends.

    A file that a dead process left is therefore no lock. Where a file system has no
    locks, there is none.

    Args:
      folder: Where the lock's file is put, hidden.
      path: What is locked.
    """

    def __init__(self, folder: str, path: str) -> None:
        self._path = path
        self._name = os.path.join(
            folder, f".{os.path.basename(path)}.{digest(path)}.lock"
        )
        self._file: IO[str] | None = None
        #: Whether the system holds it: a file system without locks does not.
        self.is_held = False

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
          CommandError: Another process has it.
        """
        while self._file is None:
            # Not "w": that would empty what another process says in it.
            file = open(self._name, "a+", encoding="utf-8")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.is_held = True
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                file.close()
                raise CommandError(
                    f"Expected an output that nobody else writes, received "
                    f"{self._path!r}, which {owner} writes. Wait for it, or name "
                    "another --output."
                ) from None
            except OSError:
                self.is_held = False
            if _is_still_there(file, self._name):
                self._file = file
            else:  # Its owner has just released and removed it.
                file.close()
        started = datetime.datetime.now().isoformat(" ", "seconds")
        self._file.truncate(0)
        self._file.write(
            f"process {os.getpid()} on {socket.gethostname()}, started {started},"
        )
        self._file.flush()

    def release(self) -> None:
        """Drops the lock and removes its file."""
        if self._file is None:
            return
        try:
            os.unlink(self._name)
        except OSError:
            pass
        self._file.close()
        self._file, self.is_held = None, False


def digest(path: str) -> str:
    """Tells files of one output from those of another of the same name."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _is_still_there(file: IO[str], name: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(name))
    except FileNotFoundError:
        return False
