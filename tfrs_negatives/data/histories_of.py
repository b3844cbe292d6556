"""What each user did before each row of a table, as lists that join a dataset."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._feature_columns import feature_values
from tfrs_negatives._id_columns import column_of, id_column
from tfrs_negatives.samplers.item_corpus import IdLookup
from tfrs_negatives.types import TableLike, TensorLike

#: What a row sees of a user's other rows of the same time.
UNSEEN, ABOVE = TIES = "unseen", "above"


def histories_of(
    table: TableLike,
    length: int = 20,
    *,
    user: str = "user",
    item: str = "item",
    time: str | None = "time",
    ties: str = UNSEEN,
) -> UserHistories:
    """Finds the last items of a user before each row, and after all of them.

    A row sees only items from before it. An item that occurred several times is listed
    several times.

    Time and memory are those of sorting the table. The result takes 8 bytes a row for
    items (strings: their text), and 16 for the place of each row's history.

    Args:
      table: Columns by name: a dict of arrays, a data frame (pandas, Polars), an Arrow
        table; or `data.Interactions`. Rows in any order.
      length: How many items a history has at the most: the newest.
      user, item: Names of the columns of ids.
      time: Name of the column of times, numbers or dates. None: rows are in order of
        time, and each sees those above it. So it is too with `data.Interactions`
        without times.
      ties: What a row sees of a user's other rows of the same time, such as those of
        one basket. "unseen": nothing. "above": those above it in the table, if that is
        the order in which they came. Where rows of one time are sorted by anything
        else, such as the item, "above" teaches a model that order and nothing else.

    Returns:
      `UserHistories`.

    Raises:
      ValueError: A column that is not there, missing ids or times, times that are no
        numbers or dates, no rows, columns of different lengths, unknown `ties`.

    Example:
      >>> table = {
      ...     "user": ["ann", "ann", "ann", "bob"],
      ...     "item": [3, 4, 5, 3],
      ...     "time": [10, 20, 20, 5],
      ... }
      >>> histories = tn.data.histories_of(table)
      >>> histories.before(range(4))
      <tf.RaggedTensor [[], [3], [3], []]>
      >>> histories.latest(["ann", "eve"])
      <tf.RaggedTensor [[3, 4, 5], []]>
      >>> tn.data.histories_of(table, ties="above").before(range(4))
      <tf.RaggedTensor [[], [3], [3, 4], []]>
    """
    _checks.check_at_least("length", length, 1)
    _checks.check_choice("ties", ties, TIES)
    users = id_column(user, column_of(table, user))
    items = id_column(item, column_of(table, item))
    times = np.arange(len(users)) if time is None else _times(table, time)
    lengths = [len(users), len(items), len(times)]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(
            "`table` must have as many users as items and times, at least one, "
            f"received {lengths[0]}, {lengths[1]} and {lengths[2]}."
        )
    distinct, numbers = np.unique(users, return_inverse=True)
    order = np.lexsort([times, numbers])
    # In order of time, and then of the table, no two rows are equal.
    sorted_times = np.arange(len(order)) if ties == ABOVE else times[order]
    return UserHistories(
        distinct, numbers[order], items[order], sorted_times, order, length
    )


class UserHistories:
    """The items of each user in order of time; made by `histories_of`.

    Args:
      users: [U] distinct ids.
      numbers: [n] the user of each row, a place in `users`, ascending.
      items: [n] the item of each row.
      times: [n], ascending within a user.
      order: [n] which row of the table each is.
      length: How many items a history has at the most.

    Attributes:
      length: As given.

    Example:
      >>> table = {"user": ["ann", "ann"], "item": [3, 4], "time": [10, 20]}
      >>> histories = tn.data.histories_of(table)
      >>> rows = tf.data.Dataset.from_tensor_slices({"row": [1, 0]}).batch(2)
      >>> next(iter(histories.attach(rows)))["history"]
      <tf.RaggedTensor [[3], []]>
    """

    def __init__(
        self,
        users: np.ndarray,
        numbers: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        order: np.ndarray,
        length: int,
    ) -> None:
        self.length = length
        places = np.arange(len(order))
        is_first = np.append(True, numbers[1:] != numbers[:-1])
        is_new = is_first | np.append(True, times[1:] != times[:-1])
        # Where the user's rows begin, and those of the same time.
        begins = np.maximum.accumulate(np.where(is_first, places, 0))
        ends = np.maximum.accumulate(np.where(is_new, places, 0))
        stops = np.append(np.flatnonzero(is_first)[1:], len(order))
        # Pipelines run on the host; tables on the accelerator would be copied.
        with tf.init_scope(), tf.device("CPU:0"):
            self._items = tf.constant(items)
            self._starts, self._ends = (
                tf.constant(_in_rows(values, order))
                for values in (np.maximum(begins, ends - length), ends)
            )
            # One user more, without items: where users that are not found are.
            firsts = np.maximum(np.flatnonzero(is_first), stops - length)
            self._latest = (
                tf.constant(np.append(firsts, 0)),
                tf.constant(np.append(stops, 0)),
            )
            self._lookup = IdLookup("table", tf.constant(users))

    def __len__(self) -> int:
        """How many rows the table has."""
        return int(self._ends.shape[0])

    def before(self, rows: TensorLike) -> tf.RaggedTensor:
        """The items before rows of the table, the newest last.

        Args:
          rows: [B] numbers of rows, from 0.

        Returns:
          Ragged [B, (N)].
        """
        rows = tf.convert_to_tensor(rows)
        return self._between(tf.gather(self._starts, rows), tf.gather(self._ends, rows))

    def latest(self, users: TensorLike) -> tf.RaggedTensor:
        """The last items of users, for who asks after all rows; the newest last.

        Args:
          users: [B] ids. Those that the table lacks have no items.

        Returns:
          Ragged [B, (N)].

        Raises:
          ValueError: Strings for integers, or the reverse.
        """
        places = self._lookup("users", users)
        starts, ends = self._latest
        return self._between(tf.gather(starts, places), tf.gather(ends, places))

    # Nothing here depends on tensors' values; converting would only warn.
    @tf.autograph.experimental.do_not_convert
    def attach(
        self, dataset: tf.data.Dataset, row_feature: str = "row", name: str = "history"
    ) -> tf.data.Dataset:
        """Adds the items before each row to the batches of a dataset.

        Args:
          dataset: Yields dicts of batches.
          row_feature: Which feature has the rows' numbers in the table, [B], from 0.
          name: What the histories are called.

        Returns:
          The dataset with the feature `name`, a `tf.RaggedTensor` [B, (N)].

        Raises:
          ValueError: Elements that are not dicts, lack the feature, or have the name
            already.
        """
        _checks.check_batches(dataset, row_feature, [name])
        return dataset.map(
            lambda element: {**element, name: self.before(element[row_feature])},
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def _between(self, starts: tf.Tensor, ends: tf.Tensor) -> tf.RaggedTensor:
        return tf.gather(self._items, tf.ragged.range(starts, ends))


def _times(table: TableLike, time: str) -> np.ndarray:
    try:
        column = column_of(table, time)
    except ValueError as error:
        raise ValueError(
            f"A history is what came before: expected a column of times {time!r}, "
            f"received a {type(table).__name__} without. Name the column, or pass "
            "`time=None` if rows are in order of time."
        ) from error
    values = feature_values(time, column)
    if values.dtype.kind == "O" or values.ndim != 1:
        raise ValueError(
            f"{time!r} must hold times, numbers or dates, received "
            f"{'lists' if values.ndim != 1 else 'strings'}. Convert them, as by "
            "`pandas.to_datetime`."
        )
    if not np.isfinite(values.astype(np.float64)).all():
        raise ValueError(
            f"{time!r} must have a time for each row, received missing or infinite "
            "ones. Drop these rows, or pass `time=None` if rows are in order of time."
        )
    return values


def _in_rows(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Values of sorted rows in the table's order."""
    found = np.empty_like(values)
    found[order] = values
    return found
