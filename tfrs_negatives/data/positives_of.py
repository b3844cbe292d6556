"""The items of each user of a table, as lists that join a dataset."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives import _checks
from tfrs_negatives._id_columns import column_of, id_column
from tfrs_negatives._ids import as_int64
from tfrs_negatives.types import TableLike, TensorLike


def positives_of(table: TableLike, key: str = "user", item: str = "item") -> Positives:
    """Lists the items of each user (or request, or other key) of a table.

    Use it for what a task or a sampler should know about the user of each row:
    `known_positive_ids` and `measured_positive_ids` of `tasks.Retrieval`, and `exclude`
    of the samplers.

    Time and memory are those of sorting the table's rows. The result takes 8 bytes for
    each distinct pair (strings: their text) and 24 for each key.

    Args:
      table: Columns by name: a dict of arrays, a data frame (pandas, Polars), an Arrow
        table; or `data.Interactions`. One row is one positive; rows may repeat.
      key: Name of the column of keys. Every integer and every string is a key.
      item: Name of the column of items' ids.

    Returns:
      `Positives`.

    Raises:
      ValueError: No such column, columns of different lengths or without rows, ids that
        are neither integers nor strings, or missing.

    Example:
      >>> table = {"user": ["ann", "bob", "ann"], "item": [3, 4, 5]}
      >>> positives = tn.data.positives_of(table)
      >>> positives(tf.constant(["ann", "eve", "bob"]))
      <tf.RaggedTensor [[3, 5], [], [4]]>
      >>> rows = tf.data.Dataset.from_tensor_slices({"user": ["bob", "ann"]}).batch(2)
      >>> rows = positives.attach(rows, "user", "known_positives")
      >>> next(iter(rows))["known_positives"]
      <tf.RaggedTensor [[4], [3, 5]]>
    """
    keys = id_column(key, column_of(table, key))
    items = id_column(item, column_of(table, item))
    if len(keys) != len(items) or not len(keys):
        raise ValueError(
            f"`table` must have as many rows in {key!r} as in {item!r}, at least one, "
            f"received {len(keys)} and {len(items)}."
        )
    keys, key_of_row = np.unique(keys, return_inverse=True)
    items, item_of_row = np.unique(items, return_inverse=True)
    pairs = np.unique(key_of_row.astype(np.int64) * len(items) + item_of_row)
    counts = np.bincount(pairs // len(items), minlength=len(keys))
    return Positives(keys, items[pairs % len(items)], counts)


class Positives:
    """The distinct items of each key; made by `positives_of`.

    Called with keys, [B] integers or strings, it gives their items, a
    `tf.RaggedTensor` [B, (P)] in ascending order. Keys that the table lacks have none.

    Args:
      keys: [K] distinct integers or strings.
      items: Items of all keys, one key after the other.
      counts: [K] how many each has.

    Raises:
      ValueError: When called: strings for integers, or the reverse.

    Example:
      >>> positives = tn.data.Positives(["ann", "bob"], items=[3, 5, 4], counts=[2, 1])
      >>> positives(tf.constant(["bob", "ann"]))
      <tf.RaggedTensor [[4], [3, 5]]>
    """

    def __init__(self, keys: TensorLike, items: TensorLike, counts: ArrayLike) -> None:
        # Pipelines run on the host; tables on the accelerator would be copied.
        with tf.init_scope(), tf.device("CPU:0"):
            keys = tf.constant(keys)
            self._keys_are_strings = keys.dtype == tf.string
            numbers = as_int64("keys", keys).numpy()
            order = np.argsort(numbers)
            if (np.diff(numbers[order]) == 0).any():
                raise ValueError(
                    "Two keys have one 64-bit hash. Number the keys, and use the "
                    "numbers instead."
                )
            # One key more, without items: where keys that are not found are.
            starts = np.concatenate([[0], np.cumsum(counts)])
            self._numbers = tf.constant(numbers[order])
            self._starts = tf.constant(np.append(starts[:-1][order], 0), tf.int64)
            self._counts = tf.constant(
                np.append(np.asarray(counts)[order], 0), tf.int64
            )
            self._items = tf.constant(items)

    @property
    def num_keys(self) -> int:
        """K, the number of keys with items."""
        return int(self._numbers.shape[0])

    @property
    def keys_are_strings(self) -> bool:
        """Whether keys are strings, and not integers."""
        return bool(self._keys_are_strings)

    def lists(self) -> tuple[np.ndarray, np.ndarray, tf.Tensor]:
        """All keys and their items, for tables of another form.

        Returns:
          Keys `[K]` int64 in ascending order (strings: their hashes, as
          `_ids.as_int64` gives them), how many items each has `[K]`, and the items,
          one key after the other.
        """
        starts, counts = self._starts[:-1], self._counts[:-1]
        places = tf.ragged.range(starts, starts + counts).flat_values
        return self._numbers.numpy(), counts.numpy(), tf.gather(self._items, places)

    def __call__(self, keys: TensorLike) -> tf.RaggedTensor:
        keys = tf.convert_to_tensor(keys)
        if keys.shape.rank != 1:
            raise ValueError(f"`keys` must be a vector [B], received {keys.shape}.")
        if (keys.dtype == tf.string) != self._keys_are_strings:
            expected = "strings" if self._keys_are_strings else "integers"
            raise ValueError(
                f"`keys` must be {expected}, as in the table, received "
                f"{keys.dtype.name}."
            )
        numbers = as_int64("keys", keys)
        last = self.num_keys - 1
        places = tf.searchsorted(self._numbers, numbers, out_type=tf.int64)
        places = tf.minimum(places, last)
        is_known = tf.equal(tf.gather(self._numbers, places), numbers)
        places = tf.where(is_known, places, last + 1)
        starts = tf.gather(self._starts, places)
        counts = tf.gather(self._counts, places)
        return tf.gather(self._items, tf.ragged.range(starts, starts + counts))

    # Nothing here depends on tensors' values; converting would only warn.
    @tf.autograph.experimental.do_not_convert
    def attach(
        self, dataset: tf.data.Dataset, key_feature: str, name: str = "known_positives"
    ) -> tf.data.Dataset:
        """Adds the items of each row's key to the batches of a dataset.

        Args:
          dataset: Yields dicts of batches.
          key_feature: Which feature has the keys, [B].
          name: What the lists are called.

        Returns:
          The dataset with the feature `name`, a `tf.RaggedTensor` [B, (P)].

        Raises:
          ValueError: Elements that are not dicts, lack the feature, or have the name
            already; keys that are no vector, or of another kind than the table's.
        """
        _checks.check_batches(dataset, key_feature, [name])
        return dataset.map(
            lambda element: {**element, name: self(element[key_feature])},
            num_parallel_calls=tf.data.AUTOTUNE,
        )
