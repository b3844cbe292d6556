"""The versions that answer, and their successors."""

from __future__ import annotations

import collections
import dataclasses
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from tfrs_negatives import _exports
from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval
from tfrs_negatives._saved_retrieval import SavedRetrieval
from tfrs_negatives._saved_sharded_retrieval import SavedShardedRetrieval
from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.request_error import without_folders
from tfrs_negatives.serving.version_policy import VersionPolicy
from tfrs_negatives.types import PathLike

#: Name, size, times of the last changes of content and of mode, mode and inode.
_Fingerprint: TypeAlias = list[tuple[str, int, int, int, int, int]]

# Seconds until a version that failed is tried again, though its files are the same:
# at first, and at most after each failure doubled it.
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 600.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Failure:
    """A version that could not be loaded."""

    fingerprint: _Fingerprint
    message: str
    pause: float
    again: float

    def is_over(self, fingerprint: _Fingerprint) -> bool:
        """Whether it is worth another try."""
        return fingerprint != self.fingerprint or time.monotonic() >= self.again


class ModelVersions:
    """Serves versions that a folder holds, and watches for others.

    Which ones a `VersionPolicy` says: the highest, or several. A version that appears
    is loaded and warmed up beside those that answer, which takes the memory of all;
    then it takes its place. Requests that hold an earlier one finish there. A version
    that cannot be loaded is passed over until its files change, modes included, or a
    pause has passed, which doubles with each failure: the cause may be elsewhere. A
    version that answers goes on while its own files are damaged. If it is deleted, the
    highest one left takes its place; if none is left, it goes on.

    Args:
      path: An export, or a folder of versions of it.
      max_batch: Rows of the largest batch, to warm up with.
      policy: `VersionPolicy`.
      writable: Whether items that change are to be changed by this process.
      shards: Where the items are, if the versions are query towers.
      shard_seconds: How long a query waits for them.

    Raises:
      ValueError, ImportError: No version there can be loaded, or one that the policy
        names is not there.
    """

    def __init__(
        self,
        path: PathLike,
        max_batch: int,
        policy: VersionPolicy | None = None,
        writable: bool = False,
        shards: Sequence[Any] = (),
        shard_seconds: float = 1.0,
    ) -> None:
        self._path, self._max_batch = os.fspath(path), max_batch
        self._writable = writable
        self._shards, self._shard_seconds = shards, shard_seconds
        # Why the items of a version could not be followed.
        self._not_followed: dict[int, str] = {}
        self.policy = policy or VersionPolicy()
        # Replaced as a whole: requests read it in another thread.
        self._served: dict[int, ModelVersion] = {}
        self._fingerprints: dict[int, _Fingerprint] = {}
        self._failed: dict[int, _Failure] = {}
        self._states: dict[int, tuple[str, str]] = {}
        self._retired: collections.deque[SavedRetrieval] = collections.deque()
        self._looking = threading.RLock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        errors = self.refresh()
        if not self._served and errors:
            raise errors[0]
        missing = self.policy.named - set(self._served)
        if missing:
            self.close_items()
            raise ValueError(self._lacks(missing))
        if not self._served:
            raise ValueError(
                f"Expected an export or a folder of versions (1, 2, ...), received "
                f"{self._path!r}, which holds none. Export one with "
                "index.export_retrieval(..., versioned=True)."
            )

    @property
    def path(self) -> str:
        """Where the versions are."""
        return self._path

    @property
    def current(self) -> ModelVersion:
        """The version that answers who names none: the highest that is served."""
        served = self._served
        return served[max(served)]

    @property
    def served(self) -> dict[int, ModelVersion]:
        """All that answer, by number."""
        return self._served

    def states(self) -> dict[int, tuple[str, str]]:
        """What is known of each version.

        Returns:
          Dict from number to a state of TensorFlow Serving ("LOADING", "AVAILABLE" or
          "END") and a message, empty unless loading failed.
        """
        return dict(self._states)

    def change_policy(self, policy: VersionPolicy) -> None:
        """Serves other versions, once all that the policy names are loaded.

        Raises:
          ValueError: One of them is not there or cannot be loaded; the versions served
            are then those of before.
        """
        with self._looking:
            before, self.policy = self.policy, policy
            # Named by somebody who may have mended them.
            for number in policy.named:
                self._failed.pop(number, None)
            self.refresh(retires=False)
            missing = policy.named - set(self._served)
            if missing:
                self.policy = before
            self.refresh()
            if missing:
                raise ValueError(self._lacks(missing))

    def _lacks(self, missing: Collection[int]) -> str:
        found = sorted(_exports.find_versions(self._path))
        reasons = [
            f" {number}: {self._states[number][1]}"
            for number in sorted(missing)
            if self._states.get(number, ("", ""))[1]
        ]
        return (
            f"Expected versions that can be served, received "
            f"{', '.join(map(str, sorted(missing)))}; there are "
            f"{', '.join(map(str, found)) or 'none'}.{''.join(reasons)}"
        )

    def watch(self, seconds: float) -> None:
        """Starts to look for versions every so many seconds, in a thread.

        Items that another process changes are followed, too.
        """

        def look() -> None:
            while not self._stop.wait(seconds):
                try:
                    self.refresh()
                    self.follow_items()
                except Exception:  # Or nobody would look any more.
                    _log.exception("looking for versions failed")

        self._watcher = threading.Thread(target=look, name="versions", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def follow_items(self) -> None:
        """Brings items that another process has changed, of all that are served."""
        for number, version in self._served.items():
            try:
                version.follow()
                self._not_followed.pop(number, None)
            except (OSError, ValueError) as error:  # Those of before go on answering.
                if self._not_followed.get(number) != str(error):
                    _log.error("items of version %d: %s", number, error)
                self._not_followed[number] = str(error)

    def close_items(self) -> None:
        """Lets go of shards, and lets others write items that this could change.

        Nothing is answered from then on.
        """
        for version in self._served.values():
            if isinstance(version.model, (SavedLiveRetrieval, SavedShardedRetrieval)):
                version.model.release()
        self._release()

    def refresh(self, retires: bool = True) -> list[Exception]:
        """Looks once, and replaces versions that answer where there are others.

        Args:
          retires: Whether versions that the policy has no place for end.

        Returns:
          The errors of versions that could not be loaded.
        """
        with self._looking:
            return self._refresh(retires)

    def _refresh(self, retires: bool) -> list[Exception]:
        self._release()
        found = _exports.find_versions(self._path)
        errors: list[Exception] = []
        wanted = {number for number in self.policy.named if number in found}
        chosen = {number for number in wanted if self._serve(number, found, errors)}
        if not self.policy.specific:
            # The highest that can be served, which may have labels as well.
            highest = 0
            for number in sorted(found, reverse=True):
                if highest == self.policy.latest:
                    break
                if number in chosen or (
                    number not in wanted and self._serve(number, found, errors)
                ):
                    chosen.add(number)
                    highest += 1
        if chosen and retires:
            for number in set(self._served) - chosen:
                self._states[number] = ("END", "")
                self._fingerprints.pop(number, None)
            self._served = {
                number: version
                for number, version in self._served.items()
                if number in chosen
            }
        for known in (self._states, self._failed):
            for number in set(known) - set(found) - set(self._served):
                del known[number]
        return errors

    def _serve(
        self, number: int, found: Mapping[int, str], errors: list[Exception]
    ) -> bool:
        """Whether a version answers, if need be after it was loaded."""
        answers = number in self._served
        fingerprint = _fingerprint(found[number])
        if answers and fingerprint == self._fingerprints[number]:
            return True
        failure = self._failed.get(number)
        if failure is None or failure.is_over(fingerprint):
            error = self._load(number, found[number])
            if error is None:
                self._fingerprints[number] = fingerprint
                self._failed.pop(number, None)
                return True
            self._note_failure(number, fingerprint, str(error))
            errors.append(error)
        # Its files are overwritten or damaged: what was loaded is sound, and newer than
        # the versions below.
        return answers

    def _note_failure(
        self, number: int, fingerprint: _Fingerprint, message: str
    ) -> None:
        before = self._failed.get(number)
        pause = _FIRST_PAUSE
        if before is not None and before.fingerprint == fingerprint:
            pause = min(2 * before.pause, _LONGEST_PAUSE)
        if before is None or before.message != message:
            _log.error("version %d cannot be served: %s", number, message)
        again = time.monotonic() + pause
        self._failed[number] = _Failure(fingerprint, message, pause, again)

    def _release(self) -> None:
        """Frees the memory of versions whose last request is done."""
        if not self._retired:
            return
        while self._retired:
            self._retired.popleft().release()
        # TensorFlow's loaded models refer to themselves. Where the process keeps what
        # lives long from the collector, this one too, it does so with the next.
        is_frozen = gc.get_freeze_count() > 0
        gc.unfreeze()
        gc.collect()
        if is_frozen:
            gc.freeze()

    def _load(self, number: int, folder: str) -> Exception | None:
        """Makes a version answer; returns the error if that fails."""
        replaces_itself = number in self._served
        if not replaces_itself:
            self._states[number] = ("LOADING", "")
        try:
            version = ModelVersion(
                number, folder, self._writable, self._shards, self._shard_seconds
            )
            try:
                version.warm_up(self._max_batch)
            except BaseException:
                version.model.release()
                raise
        except Exception as error:  # Whatever it is, those before go on.
            if not replaces_itself:
                folders = {self._path, os.path.abspath(self._path), folder}
                message = without_folders(str(error), *folders)
                self._states[number] = ("END", message)
            return error
        # Here, not when the last request is done: a finalizer may run anywhere, in the
        # middle of loading another model too.
        weakref.finalize(version, self._retired.append, version.model).atexit = False
        self._served = {**self._served, number: version}
        self._states[number] = ("AVAILABLE", "")
        _log.info("version %d answers", number)
        return None


def _fingerprint(folder: str) -> _Fingerprint:
    """What changes when a file of an export does; items that change do not count."""
    files = []
    items = _exports.live_items_of(folder)
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if os.path.join(parent, name) != items]
        for name in names:
            path = os.path.join(parent, name)
            try:
                status = os.stat(path)
            except OSError:  # Deleted since.
                continue
            files.append(
                (
                    path,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                    status.st_mode,
                    status.st_ino,
                )
            )
    return sorted(files)
