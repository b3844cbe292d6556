"""What each user did before each training row, by positions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives.data.histories_of import histories_of
from tfrs_negatives.recommender.interaction_rows import Window
from tfrs_negatives.types import TensorLike


class RowHistories:
    """The items before each training row, and after all of them.

    Memory: 24 bytes a training row, and 4 a row of the table.

    Args:
      row: [n] places of the training rows in the table.
      user, item: [n] positions.
      time: [n], sortable.
      length: How many items a history has at the most.
      num_rows: How many rows the table has.
      ties: What a row sees of rows of the same time: see `data.histories_of`.

    Attributes:
      length, ties: As given.
    """

    def __init__(
        self,
        row: np.ndarray,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        length: int,
        num_rows: int,
        ties: str,
    ) -> None:
        self.length, self.ties = length, ties
        # Ties of time stay in the order of the table.
        order = np.argsort(row)
        columns = {"user": user, "item": item, "time": time}
        self._histories = histories_of(
            {name: column[order] for name, column in columns.items()},
            length,
            ties=ties,
        )
        self._place = np.full(num_rows, -1, np.int32)
        self._place[row[order]] = np.arange(len(row), dtype=np.int32)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Places among the training rows [B], of rows of the table."""
        return self._place[rows].astype(np.int64)

    def before(self, places: TensorLike) -> tf.RaggedTensor:
        """Positions of the items before training rows, the newest last.

        Args:
          places: [B], of `places`.

        Returns:
          Ragged [B, (N)].
        """
        return self._histories.before(places)

    def latest(self, users: np.ndarray) -> tf.RaggedTensor:
        """Positions of the last items of users [B], the newest last."""
        return self._histories.latest(users)


class HistoryRows:
    """Collects training rows for their histories, in windows of any order.

    Args:
      length: How many items a history has at the most.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._columns: list[tuple[np.ndarray, ...]] = []

    def add(self, window: Window) -> None:
        """Adds all rows of some users."""
        columns = window.row, window.user, window.item, window.time
        self._columns.append(columns)

    def finish(self, positions: np.ndarray, num_rows: int, ties: str) -> RowHistories:
        """The histories.

        Args:
          positions: [M] of the items that were added.
          num_rows: How many rows the table has.
          ties: What a row sees of rows of the same time: see `data.histories_of`.
        """
        row, user, item, time = map(np.concatenate, zip(*self._columns, strict=True))
        self._columns = []
        columns = row, user, positions[item], time
        return RowHistories(*columns, self._length, num_rows, ties)


def with_ids(positions: tf.RaggedTensor, ids: tf.Tensor) -> tf.RaggedTensor:
    """Ids in the place of positions."""
    return positions.with_flat_values(tf.gather(ids, positions.flat_values))
