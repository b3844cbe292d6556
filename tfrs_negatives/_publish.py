"""Giving a finished folder its name, whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable

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
    need more steps).

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
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        # Onto nothing or an empty folder; fails if there is more.
        os.rename(new, path)
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
    return None if remove(old, files) else old
