"""Whether the order of rows of one time is the order in which they came."""

from __future__ import annotations

import numpy as np

from tfrs_negatives.data.histories_of import ABOVE, UNSEEN
from tfrs_negatives.recommender.interaction_rows import Window

# Of two neighbours the second has the larger id in half of all pairs, if the order has
# nothing to do with the ids. Sorted ids are beyond these shares, those that were sorted
# as numbers and are strings too.
_MOST_ASCENDING = 0.75


class TieOrder:
    """Counts how often the item ids of neighbouring rows of one time ascend.

    A table that was sorted by item, as an export often is, says nothing of what a user
    did first. A model whose histories have the rows above would learn that the next
    item has a larger id, which is of no use for a query, and would be right about held-
    out rows that are of the same time.
    """

    def __init__(self) -> None:
        self._num_pairs = 0
        self._num_ascending = 0

    def add(self, window: Window) -> None:
        """Looks at all rows of some users."""
        order = np.lexsort((window.row, window.time, window.user))
        user, time, item = (c[order] for c in (window.user, window.time, window.item))
        is_pair = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
        is_pair &= item[1:] != item[:-1]
        self._num_pairs += int(is_pair.sum())
        self._num_ascending += int((item[1:] > item[:-1])[is_pair].sum())

    @property
    def ties(self) -> str:
        """The choice of `data.histories_of` for rows of the same time."""
        most = _MOST_ASCENDING * self._num_pairs
        fewest = self._num_pairs - most
        return ABOVE if fewest <= self._num_ascending <= most else UNSEEN
