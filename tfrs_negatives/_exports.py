"""Exports of retrieval as folders: what they hold, and whether they are whole.

Knows neither TensorFlow nor Keras, so that commands can look before they load.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tfrs_negatives import _export_schema, _manifest
from tfrs_negatives._export_schema import FORMAT, LIVE_FORMAT, TOWER_FORMAT
from tfrs_negatives.types import PathLike

# TensorFlow Serving leaves this sub-folder of a SavedModel to its users.
DESCRIPTION = os.path.join("assets.extra", "tfrs_negatives.json")

#: Inputs that only some exports have, and where.
OPTIONS = {
    "popularity_discount": "the export was given `popularity=`",
    "exclude_history": "the export was given `histories=`",
    "where": "`export_live_retrieval` wrote the export",
}

#: The folder of the live index in such an export.
ITEMS = "items"

# Made where the index is opened for writing.
_LOCK = f"{ITEMS}/writer.lock"


def find_versions(path: PathLike) -> dict[int, str]:
    """The exports at a path.

    Args:
      path: An export, which counts as version 1, or a folder of them, each named by
        its version as TensorFlow Serving expects: "1", "2", ...

    Returns:
      Dict from version, an int, to the folder; empty if there is none.
    """
    path = os.fspath(path)
    if is_export(path):
        return {1: path}
    try:
        names = os.listdir(path)
    except OSError:
        return {}
    folders = {
        int(name): os.path.join(path, name)
        for name in names
        if name.isascii() and name.isdecimal()
    }
    return {
        version: folder
        for version, folder in sorted(folders.items())
        if is_export(folder)
    }


def unknown_option(names: Iterable[str], inputs: Iterable[str]) -> str:
    """A sentence on the first of `names` that another export would have; or none.

    Args:
      names: What a request brings.
      inputs: What the signature takes.
    """
    for name in sorted(set(names).intersection(OPTIONS).difference(inputs)):
        return (
            f" {name!r} is there where {OPTIONS[name]}, in the signatures that return "
            "items."
        )
    return ""


def is_export(folder: PathLike) -> bool:
    """Whether `export_retrieval` or `export_live_retrieval` wrote the folder."""
    return os.path.isfile(os.path.join(folder, DESCRIPTION))


def replaceable_files(folder: str) -> list[str]:
    """Names of the files of an export, which may be deleted with it.

    Raises:
      ValueError: It is no export, or holds files that were added or changed since.
    """
    if not is_export(folder):
        raise ValueError(
            f"{folder!r} holds something other than an export of tfrs_negatives, which "
            "is never replaced. Export to another path."
        )
    description = read_description(folder)
    files = {**description["files"], **description.get(ITEMS, {})}
    known = [DESCRIPTION.replace(os.sep, "/")]
    if is_live(description):
        known.append(_LOCK)
    others = _manifest.others(folder, files, also=known)
    if others:
        raise ValueError(
            f"{folder!r} holds an earlier export and files that were added or changed "
            f"since, {_manifest.listed(others)}, which are never replaced. Move them, "
            "or export to another path."
        )
    return [*files, *known]


def is_live(description: Mapping[str, Any]) -> bool:
    """Whether the items of an export are a live index, which changes."""
    return description["format"] == LIVE_FORMAT


def is_tower(description: Mapping[str, Any]) -> bool:
    """Whether an export is a query tower alone, whose items are in shards."""
    return description["format"] == TOWER_FORMAT


def items_folder(folder: PathLike) -> str:
    """Where the live index of an export is."""
    return os.path.join(folder, ITEMS)


def live_items_of(path: PathLike) -> str | None:
    """The folder of the live index of an export; None where there is none."""
    folder = items_folder(path)
    return folder if is_export(path) and os.path.isdir(folder) else None


def read_description(folder: PathLike) -> dict[str, Any]:
    """The description of an export.

    Raises:
      ValueError: There is none, it is not whole or changed, or of another format.
    """
    try:
        with open(os.path.join(folder, DESCRIPTION), encoding="utf-8") as file:
            description = json.load(file)
    except OSError as error:
        raise ValueError(
            f"Expected a folder that index.export_retrieval wrote, received "
            f"{folder!r}, which has no {DESCRIPTION}. Name such a folder."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{DESCRIPTION} in {folder!r} is no JSON ({error}): the export is "
            "corrupted. Export or copy it again."
        ) from error
    found = description.get("format") if isinstance(description, dict) else None
    if found not in (FORMAT, LIVE_FORMAT, TOWER_FORMAT):
        raise ValueError(
            f"Expected an export of format {FORMAT}, {LIVE_FORMAT} or {TOWER_FORMAT}, "
            f"received {folder!r} of format {str(found)[:40]}. Load it with the "
            "version of tfrs_negatives that wrote it, or export it again with this one."
        )
    try:
        problem = _export_schema.problem(description)
    except RecursionError:
        problem = "it is nested too deep"
    if problem is not None:
        raise ValueError(
            f"{DESCRIPTION} in {folder!r} was changed or damaged: {problem}. Export or "
            "copy it again."
        )
    return description


def check_files(folder: PathLike, description: Mapping[str, Any]) -> None:
    """Compares an export with the checksums that were taken when it was written.

    Files that were added since are left alone: TensorFlow Serving's warm-up requests
    are put into `assets.extra`.

    Raises:
      ValueError: A file is missing, truncated or changed.
    """
    remedy = "Export or copy it again."
    expected = description["files"]
    for name, file in expected.items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise ValueError(f"The export {folder!r} lacks its file {name!r}. {remedy}")
        size = os.path.getsize(path)
        if size != file["bytes"]:
            raise ValueError(
                f"The export {folder!r} is truncated or changed: {name!r} must have "
                f"{file['bytes']} bytes, but has {size}. {remedy}"
            )
    # All sizes first: reading a large export takes a while.
    for name, file in expected.items():
        if _manifest.checksum(os.path.join(folder, name)) != file:
            raise ValueError(
                f"The export {folder!r} is corrupted: {name!r} has another SHA-256 "
                f"than when it was written. {remedy}"
            )
