"""From the directory of a live index to its rows."""

from __future__ import annotations

import dataclasses
import os

from tfrs_negatives.index.live.change_log import LogReader
from tfrs_negatives.index.live.live_changes import Change
from tfrs_negatives.index.live.live_folder import (
    LiveManifest,
    logs_after,
    read_manifest,
    read_snapshot,
)
from tfrs_negatives.index.live.live_table import LiveTable

# How often a snapshot is replaced while it is read, before that is an error.
_ATTEMPTS = 10


@dataclasses.dataclass
class LoadedIndex:
    """What a directory holds.

    Attributes:
      manifest: Of the snapshot that was loaded.
      table: Its rows, and the changes of the logs.
      sequence: The number of the last change.
      num_changed: How many items the logs upsert or delete.
      source: That of the last change that has one.
      log: What has read the last log, to its last whole frame.
      log_path: Its path.
    """

    manifest: LiveManifest
    table: LiveTable
    sequence: int
    num_changed: int
    source: str | None
    log: LogReader
    log_path: str

    def follow(self, folder: str) -> int:
        """Applies what has been added to the logs since.

        Returns:
          How many changes were applied.

        Raises:
          ValueError: A log is damaged.
          FileNotFoundError: The log that follows is no more there.
        """
        before = self.sequence
        self._read(self.log)
        for first, path in logs_after(folder, self.manifest):
            if first <= self.log.first:
                continue
            # One is written only when the one before it has ended.
            self._read(self.log)
            if first != self.log.next:
                raise ValueError(
                    f"{path!r} must begin with change number {self.log.next}, and "
                    f"begins with {first}: changes are missing. Restore the "
                    "whole directory from a copy."
                )
            self.log = LogReader(path, self.manifest.index_id, first)
            self.log_path = path
            self._read(self.log)
        return self.sequence - before

    def _read(self, log: LogReader) -> None:
        for sequence, change in log.read():
            self._apply(change, sequence)

    def _apply(self, change: Change, sequence: int) -> None:
        self.num_changed += self.table.apply(change, sequence).num_changed
        self.sequence = sequence
        self.source = change.source or self.source


def load(folder: str) -> LoadedIndex:
    """Loads the snapshot and the logs behind it.

    A writer may replace the snapshot meanwhile, which begins this anew.

    Raises:
      ValueError: There is no live index, one of a later format, or a damaged one.
    """
    for _ in range(_ATTEMPTS):
        manifest = read_manifest(folder)
        try:
            return _load(folder, manifest)
        except FileNotFoundError as error:
            missing = error.filename
            if read_manifest(folder).sequence == manifest.sequence:
                break
    raise ValueError(
        f"{os.fspath(folder)!r} lacks {os.path.basename(str(missing))!r}, which its "
        "manifest needs. Restore the whole directory from a copy."
    )


def _load(folder: str, manifest: LiveManifest) -> LoadedIndex:
    arrays = read_snapshot(folder, manifest)
    table = LiveTable.from_arrays(manifest.schema, arrays)
    first, path = logs_after(folder, manifest)[0]
    log = LogReader(path, manifest.index_id, first)
    loaded = LoadedIndex(
        manifest, table, manifest.sequence, 0, manifest.source, log, path
    )
    loaded.follow(folder)
    return loaded
