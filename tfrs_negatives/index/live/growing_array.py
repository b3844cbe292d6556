"""An array that rows are added to."""

from __future__ import annotations

import numpy as np


class GrowingArray:
    """Rows that are added in place.

    A view that was handed out goes on showing the rows that there were, while more are
    added behind them. Where there is no room, rows move to a larger array, and views
    keep the earlier one.

    Args:
      rows: The first ones, `[N, ...]`, which are not copied.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._array, self._size = rows, len(rows)

    def __len__(self) -> int:
        return self._size

    def append(self, rows: np.ndarray) -> None:
        """Adds `[M, ...]` rows."""
        end = self._size + len(rows)
        if end > len(self._array):
            # By half as many again: each row moves three times, in the mean.
            capacity = max(end, self._size * 3 // 2, 16)
            grown = np.empty([capacity, *self._array.shape[1:]], self._array.dtype)
            grown[: self._size] = self._array[: self._size]
            self._array = grown
        self._array[self._size : end] = rows
        self._size = end

    def view(self) -> np.ndarray:
        """All rows at present, not a copy."""
        return self._array[: self._size]
