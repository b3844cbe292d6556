"""The time range of a table in words, for people to check what was understood."""

from __future__ import annotations

import numpy as np

_SECONDS_A_YEAR = 366 * 86_400


def time_range(first: float, last: float) -> str:
    """A range of times in words.

    Args:
      first, last: Seconds since 1970.

    Returns:
      A line such as "2000-04-25 23:05:32 to 2003-02-28 17:49:50 UTC". Where all of it
      is about 1970 it asks whether the numbers are seconds: minutes, days since 1970
      and those of a spreadsheet cannot be told from them.
    """
    start, end = (
        str(np.datetime64(int(np.floor(time)), "s")).replace("T", " ")
        for time in (first, last)
    )
    line = f"{start} to {end} UTC"
    if max(abs(first), abs(last)) < _SECONDS_A_YEAR:
        line += " (all about 1970: are these seconds?)"
    return line
