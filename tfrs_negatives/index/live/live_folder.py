"""The directory of a live index: a manifest, a snapshot of all items, and logs.

The manifest names the snapshot, and takes the place of the one before in a single
step. What it does not name is a snapshot that was not finished, or one that has been
replaced.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrs_negatives import _manifest
from tfrs_negatives._publish import flush
from tfrs_negatives.index.live.change_log import log_name, logs_in
from tfrs_negatives.index.live.live_columns import Arrays
from tfrs_negatives.index.live.live_schema import LiveSchema

MANIFEST = "live_index.json"
_FORMAT = "tfrs_negatives live index"
#: Raised when a release could not read what the one before wrote, or the reverse.
VERSION = 1
_SNAPSHOT = re.compile(r"snapshot-\d{20}")


@dataclasses.dataclass(frozen=True)
class LiveManifest:
    """What the directory says of itself.

    Attributes:
      index_id: Of this index and no other, which its logs repeat.
      sequence: The number of the last change that is in the snapshot.
      schema: The kinds of the columns.
      settings: What the index was created with.
      files: Size and SHA-256 of each file of the snapshot.
      columns: The names of the arrays' files, by column and array.
      source: That of the last change in the snapshot that has one.
    """

    index_id: uuid.UUID
    sequence: int
    schema: LiveSchema
    settings: dict[str, Any]
    files: dict[str, _manifest.Checksum]
    columns: dict[str, dict[str, str]]
    source: str | None = None

    @property
    def snapshot(self) -> str:
        """The name of the snapshot's folder."""
        return f"snapshot-{self.sequence:020d}"


def write_snapshot(
    folder: str,
    index_id: uuid.UUID,
    sequence: int,
    schema: LiveSchema,
    settings: dict[str, Any],
    arrays: Mapping[str, Arrays],
    source: str | None = None,
) -> LiveManifest:
    """Writes a snapshot, and then the manifest that names it.

    When this returns, both are on the disk. The log that begins with the change after
    `sequence` must be there before.
    """
    path = os.path.join(folder, f"snapshot-{sequence:020d}")
    # One that was not finished.
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)
    columns: dict[str, dict[str, str]] = {}
    for number, (column, parts) in enumerate(arrays.items()):
        # Names of columns may be anything; those of files are numbers.
        columns[column] = {part: f"{number}.{part}.npy" for part in parts}
        for part, array in parts.items():
            name = os.path.join(path, columns[column][part])
            np.save(name, array, allow_pickle=False)
            flush(name)
    flush(path)
    manifest = LiveManifest(
        index_id,
        sequence,
        schema,
        settings,
        _manifest.checksums(path),
        columns,
        source,
    )
    _write_manifest(folder, manifest)
    return manifest


def read_manifest(folder: str) -> LiveManifest:
    """The manifest of a directory.

    Raises:
      ValueError: It holds no live index, or one of a later format, or the manifest is
        damaged.
    """
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            described = json.load(file)
    except FileNotFoundError:
        raise ValueError(
            f"{folder!r} must be a live index, and has no {MANIFEST}. Make one with "
            "`LiveIndex.create`."
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(_damaged(path, str(error))) from error
    if not isinstance(described, dict) or described.get("format") != _FORMAT:
        raise ValueError(_damaged(path, "it is not of this format"))
    if described.get("version") != VERSION:
        raise ValueError(
            f"{path!r} must be of format {VERSION}, received "
            f"{described.get('version')!r}, as another release of tfrs_negatives "
            "writes it. Use that one."
        )
    given = described.pop("sha256", None)
    if given != _manifest.text_checksum(_as_text(described)):
        raise ValueError(_damaged(path, "its checksum differs"))
    return LiveManifest(
        uuid.UUID(described["index_id"]),
        described["sequence"],
        LiveSchema.from_json(described["schema"]),
        described["settings"],
        described["files"],
        described["columns"],
        described.get("source"),
    )


def read_snapshot(
    folder: str, manifest: LiveManifest
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of the snapshot that a manifest names.

    Raises:
      ValueError: A file is not as it was written.
      FileNotFoundError: A file is not there.
    """
    path = os.path.join(folder, manifest.snapshot)
    for name, written in manifest.files.items():
        file = os.path.join(path, name)
        if _manifest.checksum(file) != written:
            raise ValueError(_damaged(file, "it is not as the manifest says"))
    return {
        column: {
            part: np.load(os.path.join(path, name), allow_pickle=False)
            for part, name in parts.items()
        }
        for column, parts in manifest.columns.items()
    }


def remove_others(folder: str, manifest: LiveManifest) -> None:
    """Deletes snapshots and logs that a manifest does not need.

    Only a writer may, since it knows that no other writes.
    """
    for first, path in logs_in(folder):
        if first <= manifest.sequence:
            os.unlink(path)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if _SNAPSHOT.fullmatch(name) and name != manifest.snapshot:
            shutil.rmtree(path, ignore_errors=True)
        elif re.fullmatch(r"(log-\d{20}\.bin|live_index\.json)\.new", name):
            os.unlink(path)


def logs_after(folder: str, manifest: LiveManifest) -> list[tuple[int, str]]:
    """(number of the first change, path) of the logs behind a snapshot, in order.

    Raises:
      FileNotFoundError: The first of them is not there.
    """
    found = [log for log in logs_in(folder) if log[0] > manifest.sequence]
    first = manifest.sequence + 1
    if not found or found[0][0] != first:
        path = os.path.join(folder, log_name(first))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return found


def _write_manifest(folder: str, manifest: LiveManifest) -> None:
    described = {
        "format": _FORMAT,
        "version": VERSION,
        "index_id": str(manifest.index_id),
        "sequence": manifest.sequence,
        "schema": manifest.schema.as_json(),
        "settings": manifest.settings,
        "files": manifest.files,
        "columns": manifest.columns,
        "source": manifest.source,
    }
    described["sha256"] = _manifest.text_checksum(_as_text(described))
    path = os.path.join(folder, MANIFEST)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(described, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)
    flush(folder)


def _as_text(described: Mapping[str, Any]) -> str:
    return json.dumps(described, sort_keys=True)


def _damaged(path: str, reason: str) -> str:
    return f"{path!r} is damaged: {reason}. Restore the whole directory from a copy."
