"""Giving a finished folder its name, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator

from tfrs_negatives._folder_exchange import exchange
from tfrs_negatives._manifest import remove


def hidden_sibling(path: str, owner: str | None = None) -> str:
    """A name for the folder to write, in the nearest folder above `path` that exists.

    Being on the same file system, it can be renamed to `path`. With an `owner`, which
    is part of the name, `remove_unfinished` finds it.
    """
    parent, name = os.path.split(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    owned = name if owner is None else f"{name}.{owner}"
    return os.path.join(parent, f".{owned}.{uuid.uuid4().hex}.new")


@contextlib.contextmanager
def locked_folder(path: str) -> Iterator[str]:
    """Makes a folder to `publish` at `path`, locked until the end of the block.

    The system drops the lock when the process ends, however it ends, which tells
    `remove_abandoned` that nobody writes there any more. At the end of the block the
    folder is deleted, if it is not published.

    Raises:
      OSError: The folder cannot be made.
    """
    while True:
        folder = hidden_sibling(path, _owner(path))
        os.mkdir(folder)
        lock = os.open(folder, os.O_RDONLY)
        if _has_locked(lock, or_cannot=True) and _is_at(lock, folder):
            break
        # Another process took it for abandoned in between.
        os.close(lock)
    try:
        yield folder
    finally:
        # Or it is another one, whose name could not be given back.
        if _is_at(lock, folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(
    path: str,
    is_finished: Callable[[str], bool],
    files_of: Callable[[str], list[str]],
) -> None:
    """Removes what processes left that were killed in `locked_folder`.

    That is, for any path beside this one. Where the file system has no locks none is
    removed, since it may be in use.

    Args:
      path: What is to be written.
      is_finished: Whether a folder was finished. It may then be an earlier one, whose
        place another has taken, and of it only the files that `files_of` names are
        deleted.
      files_of: As for `publish`.
    """
    parent = os.path.dirname(hidden_sibling(path))
    kind = re.compile(rf"\..+\.{_owner(path)}\.[0-9a-f]{{32}}\.(new|old)")
    for name in os.listdir(parent):
        if not kind.fullmatch(name):
            continue
        folder = os.path.join(parent, name)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # Removed since, or no folder.
            continue
        try:
            if not _has_locked(lock, or_cannot=False):
                continue
            if is_finished(folder):
                with contextlib.suppress(OSError, ValueError):
                    remove(folder, files_of(folder))
            elif name.endswith(".new"):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _owner(path: str) -> str:
    """Tells the folders of `locked_folder` from those that anybody else named so."""
    parent = os.path.dirname(hidden_sibling(path))
    return hashlib.sha256(b"locked " + os.fsencode(parent)).hexdigest()[:12]


def _has_locked(folder: int, or_cannot: bool) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return or_cannot


def _is_at(folder: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(folder), os.stat(path))
    except FileNotFoundError:
        return False


def _flush(folder: str) -> None:
    """Writes a folder and all that is below to the disk."""
    for parent, _, names in os.walk(folder):
        for name in [*names, "."]:
            flush(os.path.join(parent, name))


def flush(path: str) -> None:
    """Writes a file or the names in a folder to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        # Some network file systems cannot for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(file)


def remove_unfinished(path: str, owner: str) -> None:
    """Removes folders that `hidden_sibling` named for processes that were killed.

    Call it only while no other process can be writing for this owner.
    """
    parent = os.path.dirname(hidden_sibling(path))
    kind = re.escape(f"{os.path.basename(path)}.{owner}")
    unfinished = re.compile(rf"\.{kind}\.[0-9a-f]{{32}}\.new")
    for name in os.listdir(parent):
        found = os.path.join(parent, name)
        if unfinished.fullmatch(name) and not os.path.islink(found):
            shutil.rmtree(found, ignore_errors=True)


def publish(
    new: str, path: str, files_of: Callable[[str], list[str]] | None = None
) -> str | None:
    """Renames `new` to `path`, in one step also where an earlier folder is replaced.

    Of the earlier folder only the files that `files_of` names are deleted. At any
    moment `path` is the one or the other, whole (see `exchange` for file systems that
    need more steps). What is published is on the disk before it has the name.

    Args:
      new: The finished folder, from `hidden_sibling`.
      path: The name it gets. Nothing may be there, or an empty folder.
      files_of: Function from a folder to the names of the files in it, all of which
        may be deleted; it raises `ValueError` where there are others. With it,
        `path` may be such a folder.

    Returns:
      None; or the folder that is left of the earlier one, when something came into it
      while it was replaced.

    Raises:
      OSError: There is something that is not to be replaced, or no permission.
      ValueError: What `files_of` says of the folder at `path`, which stays.
    """
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    _flush(new)
    try:
        # Onto nothing or an empty folder; fails if there is more.
        os.rename(new, path)
        flush(parent)
        return None
    except OSError as error:
        if files_of is None or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    files_of(path)
    exchange(new, path)
    old = f"{new.removesuffix('.new')}.old"
    try:
        # Somebody may have written into it since: once out of reach, look again.
        files = files_of(new)
        os.rename(new, old)
    except BaseException:
        exchange(new, path)
        raise
    flush(parent)
    return None if remove(old, files) else old
