"""Giving a finished folder its name, whole or not at all."""

import os
import shutil
import uuid


def hidden_siblings(path):
    """Names for a folder to write, and for what is at `path` meanwhile.

    Both are in the nearest folder above `path` that exists.
    """
    parent, name = os.path.split(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    stem = os.path.join(parent, f".{name}.{uuid.uuid4().hex}")
    return f"{stem}.new", f"{stem}.old"


def publish(new, path, old):
    """Renames `new` to `path`, replacing a folder there.

    What was there is moved aside, to `old`, between two renames; it comes back if
    the second fails. With None for `old`, only an empty folder is replaced.

    Raises:
      OSError: There is something that is not to be replaced, or no permission.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if old is None:
        if os.path.isdir(path):
            os.rmdir(path)
        # Fails if someone was faster.
        os.rename(new, path)
        return
    if os.path.isdir(path):
        os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        if os.path.isdir(old):
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
