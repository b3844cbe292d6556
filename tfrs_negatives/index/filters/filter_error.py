"""The error of a filter, which shows the place."""

from __future__ import annotations


def filter_error(text: str, place: int, problem: str) -> ValueError:
    """A `ValueError` that says what is wrong with a filter, and where.

    Args:
      text: The whole filter.
      place: Number of the character where it went wrong.
      problem: Sentences that say what was expected, what came, and the remedy.
    """
    near = text[place : place + 20]
    at = f"at character {place + 1}, {near!r}" if near else "at its end"
    return ValueError(f"`where` is no filter {at}: {problem}")
