"""Which items are known positives of which user."""

from __future__ import annotations

import numpy as np


class PositivePairs:
    """The distinct pairs of a user and an item, for looking up.

    Memory: 12 bytes a distinct pair, and 8 a user.

    Args:
      user, item: [n] positions of users and items, in rows that are positives.
      num_users: U.
      num_items: N.

    Attributes:
      num_items: N.
      starts: [U + 1] where each user's pairs begin, and all end.
    """

    def __init__(
        self, user: np.ndarray, item: np.ndarray, num_users: int, num_items: int
    ) -> None:
        keys = user.astype(np.int64)
        keys *= num_items
        keys += item
        keys.sort()
        # In place of `unique`, which holds another copy.
        self._keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
        bounds = np.arange(num_users + 1, dtype=np.int64) * num_items
        self.starts = np.searchsorted(self._keys, bounds)
        self._items = (self._keys % num_items).astype(np.int32)
        self.num_items = num_items

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The items of several users.

        Args:
          users: [m] positions.

        Returns:
          `(places, items)`: for each known pair, which of `users` it belongs to, and
          its item.
        """
        first = self.starts[users]
        num = self.starts[np.asarray(users) + 1] - first
        ends = np.cumsum(num)
        places = np.repeat(np.arange(len(num)), num)
        within = np.arange(ends[-1] if len(ends) else 0) - (ends - num)[places]
        return places, self._items[first[places] + within]

    def contain(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Which pairs are known: [m] bool for [m] positions each."""
        if not len(self._keys):
            return np.zeros(len(user), bool)
        wanted = np.asarray(user, np.int64) * self.num_items + item
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return self._keys[place] == wanted
