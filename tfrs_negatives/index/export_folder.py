"""Writing an export so that its folder is always whole."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tfrs_negatives import _export_schema, _exports, _manifest
from tfrs_negatives._publish import locked_folder, publish, remove_abandoned
from tfrs_negatives.index.live.writer_lock import WriterLock
from tfrs_negatives.types import PathLike


def next_version(path: PathLike) -> str:
    """The folder for the version that follows those at `path`, which need not exist.

    Raises:
      ValueError: if `path` is something else than a folder of versions.
    """
    path = os.path.realpath(os.fspath(path))
    if _exports.is_export(path):
        raise ValueError(
            f"{path!r} is an export itself. Move it to {os.path.join(path, '1')!r} by "
            "way of another name, or export versions to another path."
        )
    names = os.listdir(path) if os.path.isdir(path) else []
    # Also of folders that hold no export: their number is taken.
    taken = [int(name) for name in names if name.isascii() and name.isdecimal()]
    return os.path.join(path, str(max(taken, default=0) + 1))


def target_of(path: PathLike, overwrite: bool, versioned: bool) -> str:
    """The absolute path that an export is written to, if it may be.

    Raises:
      ValueError: As `next_version` and `check_target`; both options at once.
    """
    if versioned and overwrite:
        raise ValueError(
            "`versioned` writes a new version and replaces none, received "
            "overwrite=True too. Leave one out."
        )
    return check_target(next_version(path) if versioned else path, overwrite)


def check_target(path: PathLike, overwrite: bool) -> str:
    """Returns the absolute path, if an export may be written there.

    Raises:
      ValueError: if something is there that must not be replaced.
    """
    path = os.path.realpath(os.fspath(path))
    if not os.path.lexists(path):
        return path
    if not os.path.isdir(path):
        raise ValueError(f"{path!r} is a file. Export to another path.")
    if not os.listdir(path):
        return path
    _exports.replaceable_files(path)
    if not overwrite:
        raise ValueError(
            f"{path!r} holds an earlier export. Pass overwrite=True to replace it, or "
            "export to another path."
        )
    return path


def write_atomically(
    path: str,
    save: Callable[[str], None],
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = False,
    versioned: bool = False,
) -> str:
    """Writes into a hidden sibling folder, and gives it its name at the end.

    An earlier export is replaced in one step, as `_publish.publish` says, and only if
    its files are as they were written and there are no others. What exports beside
    it left that were killed is removed.

    Args:
      path: What `check_target` returned.
      save: Function that writes the SavedModel into the folder it is given.
      metadata: Dict for the description, as JSON; the format, if it is not there, and
        checksums are added, that of the description itself among them.
      overwrite: Whether an earlier export may be replaced.
      versioned: Whether `path` is a version, which becomes a higher one if somebody
        else takes that number while this one is written.

    Returns:
      The path that was written.

    Raises:
      ValueError: if something else, or with `overwrite` off an export, has come to be
        there since `check_target`.
      OSError: if it cannot be written: a full disk, a folder that is read-only.
    """
    left = None
    try:
        remove_abandoned(path, _exports.is_export, _exports.replaceable_files)
        with locked_folder(path) as new:
            save(new)
            _write_description(new, metadata)
            if versioned:
                path = next_version(os.path.dirname(path))
            files_of = _exports.replaceable_files if overwrite else None
            with _unwritten(path):
                left = publish(new, check_target(path, overwrite), files_of)
    except (OSError, tf.errors.OpError) as error:
        kept = (
            "What was there is whole." if os.path.isdir(path) else "Nothing is there."
        )
        raise OSError(
            f"The export to {path!r} cannot be written ({str(error).splitlines()[0]}). "
            f"{kept} Free space, or export to a path that can be written."
        ) from error
    if left:
        warnings.warn(
            f"Something was written into {path!r} while it was replaced; it is in "
            f"{left!r}.",
            stacklevel=3,
        )
    return path


@contextlib.contextmanager
def _unwritten(path: str) -> Iterator[None]:
    """Lets nobody write the items of an export that is replaced.

    Raises:
      ValueError: Somebody does.
    """
    items = _exports.live_items_of(path)
    lock = None if items is None else WriterLock(items)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _write_description(folder: str, metadata: Mapping[str, Any]) -> None:
    marker = os.path.join(folder, _exports.DESCRIPTION)
    files = _manifest.checksums(folder)
    whole = {"format": _export_schema.FORMAT, **metadata, "files": files}
    if _exports.is_live(whole):
        # Those of the index change, and it has checksums of its own.
        of_items = {name for name in files if name.startswith(f"{_exports.ITEMS}/")}
        whole["files"] = {n: file for n, file in files.items() if n not in of_items}
        whole[_exports.ITEMS] = {name: files[name] for name in sorted(of_items)}
    whole[_export_schema.CHECKSUM] = _export_schema.checksum(whole)
    os.makedirs(os.path.dirname(marker), exist_ok=True)
    part = f"{marker}.part"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(whole, file, indent=2, allow_nan=False)
    # A folder is an export, with all of its files, or has no description.
    os.replace(part, marker)
