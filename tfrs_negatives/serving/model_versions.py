"""The version that answers, and its successors."""

import collections
import gc
import logging
import os
import threading
import weakref

from tfrs_negatives import _exports
from tfrs_negatives.serving.model_version import ModelVersion

_log = logging.getLogger(__name__)


class ModelVersions:
    """Serves the highest version that a folder holds, and watches for others.

    A version that appears is loaded and warmed up beside the one that answers, which
    takes the memory of both; then it takes its place. Requests that hold the earlier
    one finish there. A version that cannot be loaded is passed over until its files
    change; the version that answers goes on while its own files are damaged. If it is
    deleted, the highest one left takes its place; if none is left, it goes on.

    Args:
      path: An export, or a folder of versions of it.
      max_batch: Rows of the largest batch, to warm up with.

    Raises:
      ValueError, ImportError: No version there can be loaded.
    """

    def __init__(self, path, max_batch):
        self._path, self._max_batch = os.fspath(path), max_batch
        self._fingerprint = None
        self._failed = {}
        self._states = {}
        self._retired = collections.deque()
        self._stop = threading.Event()
        self._watcher = None
        self.current = None
        errors = self.refresh()
        if self.current is None:
            raise (
                errors[0]
                if errors
                else ValueError(
                    f"Expected an export or a folder of versions (1, 2, ...), received "
                    f"{self._path!r}, which holds none. Export one with "
                    "index.export_retrieval(..., versioned=True)."
                )
            )

    def states(self):
        """What is known of each version.

        Returns:
          Dict from number to a state of TensorFlow Serving ("LOADING", "AVAILABLE" or
          "END") and a message, empty unless loading failed.
        """
        return dict(self._states)

    def watch(self, seconds):
        """Starts to look for versions every so many seconds, in a thread."""

        def look():
            while not self._stop.wait(seconds):
                try:
                    self.refresh()
                except Exception:  # Or nobody would look any more.
                    _log.exception("looking for versions failed")

        self._watcher = threading.Thread(target=look, name="versions", daemon=True)
        self._watcher.start()

    def stop(self):
        """Ends the watch."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def refresh(self):
        """Looks once, and replaces the version that answers where there is another.

        Returns:
          The errors of versions that could not be loaded.
        """
        self._release()
        found = _exports.find_versions(self._path)
        errors = []
        for number in sorted(found, reverse=True):
            fingerprint = _fingerprint(found[number])
            answers = self.current is not None and self.current.number == number
            if answers and fingerprint == self._fingerprint:
                break
            if self._failed.get(number) != fingerprint:
                error = self._load(number, found[number])
                if error is None:
                    self._fingerprint = fingerprint
                    break
                self._failed[number] = fingerprint
                errors.append(error)
            if answers:
                # Its files are overwritten or damaged: what was loaded is sound, and
                # newer than the versions below.
                break
        for known in (self._states, self._failed):
            for number in (
                set(known) - set(found) - {self.current and self.current.number}
            ):
                del known[number]
        return errors

    def _release(self):
        """Frees the memory of versions whose last request is done."""
        if not self._retired:
            return
        while self._retired:
            self._retired.popleft().release()
        # TensorFlow's loaded models refer to themselves.
        gc.collect()

    def _load(self, number, folder):
        """Replaces the current version; returns the error if that fails."""
        before = self.current
        replaces_itself = before is not None and before.number == number
        if not replaces_itself:
            self._states[number] = ("LOADING", "")
        try:
            version = ModelVersion(number, folder)
            try:
                version.warm_up(self._max_batch)
            except BaseException:
                version.model.release()
                raise
        except Exception as error:  # Whatever it is, the version before goes on.
            _log.error("version %d cannot be served: %s", number, error)
            if not replaces_itself:
                self._states[number] = ("END", str(error))
            return error
        # Here, not when the last request is done: a finalizer may run anywhere, in the
        # middle of loading another model too.
        weakref.finalize(version, self._retired.append, version.model).atexit = False
        self.current = version
        if before is not None:
            self._states[before.number] = ("END", "")
        self._states[number] = ("AVAILABLE", "")
        _log.info("version %d answers", number)
        return None


def _fingerprint(folder):
    """What changes when a file of an export does."""
    files = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                status = os.stat(path)
            except OSError:  # Deleted since.
                continue
            files.append((path, status.st_size, status.st_mtime_ns, status.st_ino))
    return sorted(files)
