"""How many rows of a table were read so far, on one line of a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def rows_read(verbose: int) -> Iterator[Callable[[int], None] | None]:
    """Gives a function that shows the number of rows, or None where it is not shown.

    The line is written over again and again, which only a terminal shows as one line.
    So a file or a pipe gets nothing.

    Args:
      verbose: 0 shows nothing.
    """
    if not verbose or not sys.stdout.isatty():
        yield None
        return
    yield _tell
    print()


def _tell(num_rows: int) -> None:
    print(f"\r{num_rows:,} rows read", end="", flush=True)
