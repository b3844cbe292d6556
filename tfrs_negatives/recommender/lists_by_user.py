"""What belongs to each user, as rows of a matrix."""

from __future__ import annotations

import numpy as np


class ListsByUser:
    """What belongs to each user.

    Args:
      user: [n] whose each of `values` is.
      values: [n].
      num_users: U.

    Attributes:
      sizes: [U], how much each user has.
    """

    def __init__(self, user: np.ndarray, values: np.ndarray, num_users: int) -> None:
        self._values = values[np.argsort(user, kind="stable")]
        self.sizes = np.bincount(user, minlength=num_users)
        self._starts = np.cumsum(self.sizes) - self.sizes

    def matrix(self, users: np.ndarray) -> np.ndarray:
        """The values of some users, a row each, -1 behind the last."""
        within = np.arange(self.sizes[users].max(initial=0))
        places = self._starts[users][:, None] + within
        there = within < self.sizes[users][:, None]
        return np.where(there, self._values[np.where(there, places, 0)], -1)
