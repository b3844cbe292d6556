"""Which files a path stands for: one, those of a folder, or what a glob finds."""

from __future__ import annotations

import dataclasses
import glob
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from tfrs_negatives.data.file_systems import FileSystem, file_system
from tfrs_negatives.data.packages import first_line
from tfrs_negatives.types import PathLike

#: What separates the fields of text files, by their ending.
SEPARATORS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
ENDINGS = (*SEPARATORS, ".parquet")
# What Spark and Hive call a partition that has no value.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# Folders of tables whose files are not all part of them.
_LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}


@dataclasses.dataclass(frozen=True)
class TableFile:
    """A file of a table.

    Attributes:
      path: Where it is, within its file system.
      system: Its `FileSystem`.
      ending: Of its name, one of `ENDINGS`.
      partitions: Values of the columns that its folders name, as `dt=2024-05-01` does;
        None: no value.
    """

    path: str
    system: FileSystem
    ending: str
    partitions: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether it is no Parquet file."""
        return self.ending in SEPARATORS

    @property
    def name(self) -> str:
        """The name without its folders."""
        return os.path.basename(self.path)

    def state(self) -> Any:
        """What tells it from another file at its path; None: it is gone."""
        return self.system.state(self.path)

    def version(self) -> Any:
        """The state without the inode, which another machine may see differently."""
        state = self.state()
        return state[:2] if isinstance(state, tuple) else state


@dataclasses.dataclass(frozen=True)
class TableFiles:
    """The files of a table, in the order in which they are read.

    Attributes:
      files: At least one `TableFile`, all text or all Parquet.
      is_single: Whether the path is that of a file.
      name: The path's last part.
    """

    files: Sequence[TableFile]
    is_single: bool
    name: str


def table_files(path: PathLike) -> TableFiles:
    """The files that a path stands for.

    Args:
      path: A file; a folder, of which all files count, in the folders within it too; or
        a glob, in which `**` stands for any folders. Either on this machine or
        `scheme://...`, a file system of fsspec. Names that begin with `.` or `_` are no
        data, except for folders such as `_hour=3`.

    Returns:
      `TableFiles`, in the order of their paths.

    Raises:
      ValueError: Nothing there, endings that are unknown or do not go together, files
        whose folders do not name the same columns.
      ImportError: fsspec, or its package for this file system, is not installed.
    """
    written = os.fspath(path)
    system, within = file_system(written)
    try:
        return _found(written, system, within)
    except OSError as error:
        raise ValueError(
            f"Expected a path that can be read, received {written!r}: "
            f"{first_line(error)}. Check the path, and who may read it."
        ) from error


def _found(written: str, system: FileSystem, within: str) -> TableFiles:
    name = os.path.basename(written.rstrip("/")) or written
    is_folder = system.is_folder(within)
    if is_folder or (_is_glob(within) and not system.is_file(within)):
        base = within.rstrip("/") if is_folder else _folder_of_glob(within)
        paths = _of_folder(system, base) if is_folder else _of_glob(system, within)
        if not paths:
            endings = ", ".join(ENDINGS)
            raise ValueError(
                f"Expected files ending in {endings} in {written!r}, received none. "
                "Check the path."
            )
        files = [_file(system, path, base) for path in sorted(paths)]
        _check_alike(files)
        return TableFiles(files, False, name)
    file = _file(system, within, os.path.dirname(within))
    if not system.is_file(within):
        raise ValueError(
            f"Expected a file, a folder of files or a glob, received {written!r}, "
            "which is none."
        )
    return TableFiles([file], True, name)


def _is_glob(path: str) -> bool:
    return glob.has_magic(path)


def _folder_of_glob(pattern: str) -> str:
    """The folders before the first wildcard."""
    parts = pattern.split("/")
    plain = next(place for place, part in enumerate(parts) if _is_glob(part))
    return "/".join(parts[:plain])


def _of_glob(system: FileSystem, pattern: str) -> set[str]:
    """Files that match, and those of folders that match."""
    base, found = _folder_of_glob(pattern), set()
    for path in system.matches(pattern):
        if system.is_folder(path):
            # `**` finds a folder and all that is in it: each file counts once.
            found.update(_of_folder(system, path.rstrip("/")))
        else:
            found.add(path)
    return {path for path in found if _is_data(_below(path, base))}


def _of_folder(system: FileSystem, folder: str) -> set[str]:
    paths = system.files_below(folder)
    for path in paths:
        for part in _below(path, folder)[:-1]:
            if part in _LOGS:
                raise ValueError(
                    f"Expected a folder whose files are all part of the table, received"
                    f" {folder!r}, a table of {_LOGS[part]}, whose log says which are. "
                    "Read it by a package for such tables, and write Parquet files."
                )
    return {path for path in paths if _is_data(_below(path, folder))}


def _below(path: str, base: str) -> list[str]:
    """The parts of a path below a folder."""
    return path[len(base) :].replace(os.sep, "/").strip("/").split("/")


def _is_data(parts: Sequence[str]) -> bool:
    """Whether no part of a path is hidden."""
    return not any(
        part.startswith(".") or (part.startswith("_") and "=" not in part)
        for part in parts
    )


def _file(system: FileSystem, path: str, base: str) -> TableFile:
    ending = next((e for e in ENDINGS if path.lower().endswith(e)), None)
    if ending is None:
        raise ValueError(
            f"Expected a file ending in {', '.join(ENDINGS)}, received {path!r}. "
            "Convert it, or give it the ending of its format."
        )
    partitions: dict[str, str | None] = {}
    for part in _below(path, base)[:-1]:
        name, is_partition, value = part.partition("=")
        if is_partition:
            value = urllib.parse.unquote(value)
            partitions[urllib.parse.unquote(name)] = (
                None if value == _NO_VALUE else value
            )
    return TableFile(path, system, ending, partitions)


def _check_alike(files: Sequence[TableFile]) -> None:
    """Raises `ValueError` where files cannot be of one table."""
    first = files[0]
    for file in files[1:]:
        if file.is_text != first.is_text:
            raise ValueError(
                f"Files of one table must all be Parquet or all text, received "
                f"{first.path!r} and {file.path!r}. Name those of one kind by a glob."
            )
        if list(file.partitions) != list(first.partitions):
            expected, received = (
                ", ".join(one.partitions) or "none" for one in (first, file)
            )
            raise ValueError(
                f"Folders of one table must name the same columns: expected {expected},"
                f" those of {first.path!r}, received {received} for {file.path!r}. "
                "Name the folders of one table."
            )
