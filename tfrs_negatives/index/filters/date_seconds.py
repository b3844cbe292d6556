"""Dates as seconds since 1970, which is how they are kept and compared."""

from __future__ import annotations

import datetime


def seconds_of(value: object) -> float:
    """Seconds since 1970 of a date.

    Args:
      value: A number of seconds, a date, a time (of UTC, if it has no zone), or a
        text of ISO 8601 such as "2024-05-31" or "2024-05-31T12:00:00+02:00".

    Raises:
      ValueError: It is none of these.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        # Python 3.10 does not know the Z.
        value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime.datetime):
        raise ValueError(f"no date: {value!r}")
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.timezone.utc)
    return value.timestamp()
