"""A folder whose files change the items that are served."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable

from tfrs_negatives._publish import flush
from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval
from tfrs_negatives.serving.update_rows import is_update, read_changes
from tfrs_negatives.types import PathLike

#: Folders in it for what is done, and for what was wrong.
APPLIED, REJECTED = "applied", "rejected"

_log = logging.getLogger(__name__)


class UpdateFolder:
    """Applies the files that appear in a folder, by their names, each once.

    With each change the index keeps which file it is of, and how many of its rows are
    done. So after a kill a file is gone on with where it was left, also if other
    changes came in between. A file is moved to `applied` when it is done. One that is
    wrong changes nothing: it is moved to `rejected`, beside a text that says why.

    Args:
      path: The folder, which must be there.
      model: Function that returns the model to change, a `SavedLiveRetrieval`, or
        raises `RequestError`.

    Raises:
      ValueError: There is no such folder, or it cannot be written.
    """

    def __init__(self, path: PathLike, model: Callable[[], SavedLiveRetrieval]) -> None:
        self._path, self._model = os.fspath(path), model
        try:
            for name in (APPLIED, REJECTED):
                os.makedirs(os.path.join(self._path, name), exist_ok=True)
            os.listdir(self._path)
        except OSError as error:
            raise ValueError(
                f"Expected a folder of updates that can be written, received "
                f"{self._path!r} ({error.strerror}). Make it, or name another."
            ) from error
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._failure = ""

    def apply(self) -> int:
        """Applies the files that are there; returns how many were applied.

        Raises:
          OSError: The folder or the index cannot be written. Nothing is lost: the next
            call goes on.
          RequestError: There are no items that can be changed.
        """
        applied = 0
        for name in sorted(filter(is_update, os.listdir(self._path))):
            if self._stop.is_set():
                break
            applied += self._apply(name)
        return applied

    def watch(self, seconds: float) -> None:
        """Starts to look for files every so many seconds, in a thread."""

        def look() -> None:
            while not self._stop.wait(seconds):
                try:
                    self.apply()
                    self._failure = ""
                except Exception as error:  # Or nobody would look any more.
                    if str(error) != self._failure:
                        _log.exception("updates of %s wait", self._path)
                    self._failure = str(error)

        self._watcher = threading.Thread(target=look, name="updates", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Ends the watch; a file that is applied goes on with the next."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _apply(self, name: str) -> bool:
        path = os.path.join(self._path, name)
        model = self._model()
        try:
            changes = read_changes(path, model)
        except ValueError as error:
            self._reject(name, str(error))
            return False
        identity = _identity(path)
        done = 0
        its, _, rows = (model.items.source or "").rpartition(" ")
        if its == identity:
            done = int(rows)
        for one in changes:
            if self._stop.is_set():
                return False
            if one.end > done:
                model.items.commit(one.change, f"{identity} {one.end}")
        self._move(name, APPLIED)
        rows_in_all = changes[-1].end if changes else 0
        _log.info("applied the %d rows of %s", rows_in_all, name)
        return True

    def _reject(self, name: str, reason: str) -> None:
        _log.error("rejected %s: %s", name, reason)
        # First the reason, so that no file is there without.
        why = os.path.join(self._path, REJECTED, f"{name}.reason")
        with open(why, "w", encoding="utf-8", errors="replace") as file:
            file.write(f"{reason}\n")
            file.flush()
            os.fsync(file.fileno())
        self._move(name, REJECTED)

    def _move(self, name: str, folder: str) -> None:
        target = os.path.join(self._path, folder)
        os.replace(os.path.join(self._path, name), os.path.join(target, name))
        flush(target)
        flush(self._path)


def _identity(path: str) -> str:
    """Tells a file from others, of the same name or content too."""
    digest = hashlib.sha256()
    status = os.stat(path)
    digest.update(f"{os.path.basename(path)}\n{status.st_mtime_ns}\n".encode())
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
