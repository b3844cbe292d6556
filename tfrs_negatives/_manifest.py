"""Which files a folder was written with, and whether it holds just these."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypedDict

from tfrs_negatives.types import PathLike


class Checksum(TypedDict):
    """What tells whether a file is still what was written."""

    bytes: int
    sha256: str


def checksums(folder: PathLike) -> dict[str, Checksum]:
    """Size and SHA-256 of each file below `folder`, by its name relative to it."""
    return {name: checksum(os.path.join(folder, name)) for name in _names(folder)}


def checksum(path: PathLike) -> Checksum:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": os.path.getsize(path), "sha256": digest.hexdigest()}


def text_checksum(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def others(
    folder: PathLike, files: Mapping[str, Checksum], *, also: Collection[str] = ()
) -> list[str]:
    """What a folder holds that was not written with it.

    Files that are missing are none: nothing is lost with them. Nor are empty folders.

    Args:
      folder: The folder.
      files: Its `checksums` when it was written.
      also: Names that belong to it and have no checksum.

    Returns:
      Names of files that were added, and of those that were changed since, sorted.
    """
    found = []
    for name in _names(folder):
        path = os.path.join(folder, name)
        if name in also:
            continue
        written = files.get(name)
        if (
            written is None
            or os.path.islink(path)
            or os.path.getsize(path) != written["bytes"]
            or checksum(path) != written
        ):
            found.append(name)
    return found


def remove(folder: PathLike, names: Iterable[str]) -> bool:
    """Deletes the files named, and what folders are empty then.

    Returns:
      Whether nothing is left of `folder`.
    """
    for name in names:
        try:
            os.unlink(os.path.join(folder, name))
        except OSError:
            pass
    for parent, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(parent)
        except OSError:
            pass
    return not os.path.lexists(folder)


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names for a message, the first of them and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + rest


def _names(folder: PathLike) -> list[str]:
    """All files below a folder, and links to anything, which are not followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        links = [n for n in folders if os.path.islink(os.path.join(parent, n))]
        for name in names + links:
            path = os.path.relpath(os.path.join(parent, name), folder)
            found.append(path.replace(os.sep, "/"))
    return sorted(found)
