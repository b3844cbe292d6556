"""Where files are: on this machine, or behind an address such as `s3://...`."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Any, Protocol

from tfrs_negatives.data.packages import first_line, import_package

if TYPE_CHECKING:
    import pyarrow.fs


class FileSystem(Protocol):
    """What is asked of a file system. Paths are strings within it.

    Attributes:
      is_remote: Whether asking costs a message to another machine.
    """

    is_remote: bool

    @property
    def arrow(self) -> pyarrow.fs.FileSystem:
        """The file system as Arrow reads from it."""

    def is_file(self, path: str) -> bool:
        """Whether a file is there."""

    def is_folder(self, path: str) -> bool:
        """Whether a folder is there."""

    def files_below(self, folder: str) -> list[str]:
        """Paths of all files in a folder and in those within it."""

    def matches(self, pattern: str) -> list[str]:
        """Paths of what a glob finds, where `**` stands for any folders."""

    def state(self, path: str) -> Any:
        """What tells a file from another at its path; None: it is gone."""


class LocalFiles:
    """The file systems that this machine has mounted."""

    is_remote = False

    @property
    def arrow(self) -> pyarrow.fs.FileSystem:
        """The file system as Arrow reads from it."""
        import pyarrow.fs

        return pyarrow.fs.LocalFileSystem()

    def is_file(self, path: str) -> bool:
        """Whether a file is there."""
        return os.path.isfile(path)

    def is_folder(self, path: str) -> bool:
        """Whether a folder is there."""
        return os.path.isdir(path)

    def files_below(self, folder: str) -> list[str]:
        """Paths of all files in a folder and in those within it."""
        return [
            os.path.join(where, name)
            for where, _, names in os.walk(folder, followlinks=True)
            for name in names
        ]

    def matches(self, pattern: str) -> list[str]:
        """Paths of what a glob finds, where `**` stands for any folders."""
        return glob.glob(pattern, recursive=True)

    def state(self, path: str) -> tuple[int, int, int] | None:
        """Size, time of the last change, and inode."""
        try:
            status = os.stat(path)
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns, status.st_ino


class RemoteFiles:
    """A file system of fsspec.

    Args:
      system: `fsspec.AbstractFileSystem`.
    """

    is_remote = True

    def __init__(self, system: Any) -> None:
        self._system = system

    @property
    def arrow(self) -> pyarrow.fs.FileSystem:
        """The file system as Arrow reads from it."""
        import pyarrow.fs

        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self._system))

    def is_file(self, path: str) -> bool:
        """Whether a file is there."""
        return self._system.isfile(path)

    def is_folder(self, path: str) -> bool:
        """Whether a folder is there."""
        return self._system.isdir(path)

    def files_below(self, folder: str) -> list[str]:
        """Paths of all files in a folder and in those within it."""
        return self._system.find(folder)

    def matches(self, pattern: str) -> list[str]:
        """Paths of what a glob finds, where `**` stands for any folders."""
        return self._system.glob(pattern)

    def state(self, path: str) -> Any:
        """A hash of what the file system says of a file."""
        try:
            self._system.invalidate_cache()
            return self._system.ukey(path)
        except OSError:
            return None


def file_system(path: str) -> tuple[FileSystem, str]:
    """The file system that a path is of, and the path within it.

    Args:
      path: A path on this machine, or `scheme://...`, for which fsspec is asked.

    Raises:
      ImportError: fsspec, or its package for this file system, is not installed.
      ValueError: A scheme that fsspec does not know, or a server that cannot be asked.
    """
    if "://" not in path:
        return LocalFiles(), path
    fsspec = import_package("fsspec", "remote")
    scheme = path.split("://")[0]
    try:
        system, within = fsspec.core.url_to_fs(path)
    except ImportError as error:
        raise ImportError(
            f"Expected the package that reads {scheme}://, for {path!r}, received none "
            f"({first_line(error)}). Install it by pip."
        ) from error
    except Exception as error:  # Each file system has errors of its own.
        raise ValueError(
            f"Expected a path that can be read, received {path!r}: {first_line(error)}."
            " Check the part before `://`, and your credentials."
        ) from error
    return RemoteFiles(system), within
