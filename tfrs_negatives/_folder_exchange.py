"""Two folders that exchange their names, in one step where the system can."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable

from tfrs_negatives.types import PathLike

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2.
_RENAME_SWAP = 2  # macOS, renamex_np.

# A file system, a kernel or a C library that does not know how.
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def exchange(one: PathLike, other: PathLike) -> None:
    """Gives two folders of one file system each other's name.

    Where the system has no such operation (some network file systems), it takes
    three renames. Should the process die between the first two, `other` is found as
    `one` + ".aside".

    Raises:
      OSError: It cannot be done; both then have their names.
    """
    one, other = os.fspath(one), os.fspath(other)
    if _at_once(one, other):
        return
    aside = f"{one}.aside"
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except BaseException:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def _at_once(one: str, other: str) -> bool:
    """Whether the system has exchanged them."""
    call = _system_call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), one, None, other)


@functools.cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    """A function of two paths, as bytes, that returns 0 after success; or None."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            swap = library.renamex_np
            return lambda one, other: swap(one, other, _RENAME_SWAP)
        rename = library.renameat2
    except (AttributeError, OSError, TypeError):
        return None
    return lambda one, other: rename(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE)
