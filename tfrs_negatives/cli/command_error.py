"""Mistakes of the user's, told in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class CommandError(Exception):
    """What was expected, what was received, and the remedy; exit code 2."""


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turns the errors of code that checks what the user gave into `CommandError`.

    Around such code alone: elsewhere a `ValueError` is a defect of ours, and its
    traceback is wanted.
    """
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        raise CommandError(str(error)) from error
