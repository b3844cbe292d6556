"""Each user's last interactions."""

from __future__ import annotations

import numpy as np

HELD_OUT_SHARE = 0.2


def last_interactions(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Marks each user's last 20% of interactions, ties by file order.

    At least one is marked of a user with two or more, none of one with a single.

    Args:
      user: [n] ids.
      time: [n] sortable times.

    Returns:
      [n] bool.
    """
    number, count = np.unique(user, return_inverse=True, return_counts=True)[1:]
    order = np.lexsort((time, number))  # Stable: file order where times tie.
    starts = np.cumsum(count) - count
    place = np.empty(len(number), np.int64)
    place[order] = np.arange(len(number)) - starts[number[order]]
    return place >= (count - num_held_out(count))[number]


def num_held_out(count: np.ndarray) -> np.ndarray:
    """How many rows are held out of users with so many: [m] int64 for [m] counts."""
    held_out = np.maximum((count * HELD_OUT_SHARE).astype(np.int64), 1)
    held_out[count == 1] = 0
    return held_out
