"""Keys in order, so that all places of a key are found by binary search."""

from __future__ import annotations

import tensorflow as tf


class SortedKeys:
    """Keys in ascending order, those that stand for none last.

    Args:
      keys: [n] int64.
      mask: [n] bool, which of them are keys; None: all.
    """

    def __init__(self, keys: tf.Tensor, mask: tf.Tensor | None = None) -> None:
        if mask is None:
            #: [n] int32, the places of the keys in sorted order.
            self.order = tf.argsort(keys, stable=True)
            self._num_keys = None
        else:
            # As the largest integer, the others are behind all keys, and behind those
            # that are the largest integer too.
            keys = tf.where(mask, keys, tf.int64.max)
            by_mask = tf.argsort(tf.cast(~mask, tf.int32), stable=True)
            by_key = tf.argsort(tf.gather(keys, by_mask), stable=True)
            self.order = tf.gather(by_mask, by_key)
            self._num_keys = tf.math.count_nonzero(mask, dtype=tf.int32)
        self._sorted = tf.gather(keys, self.order)

    def ranges(self, entries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """For each key in `entries` [L] where it is in sorted order.

        Returns:
          `(first, last)`, [L] int32: the places `order[first:last]` hold it.
        """
        # `tf.searchsorted` fails where a graph knows that there are no entries.
        inputs = {
            "sorted_inputs": tf.expand_dims(self._sorted, 0),
            "values": tf.expand_dims(entries, 0),
        }
        first = tf.squeeze(tf.raw_ops.LowerBound(**inputs), 0)
        last = tf.squeeze(tf.raw_ops.UpperBound(**inputs), 0)
        if self._num_keys is None:
            return first, last
        return tf.minimum(first, self._num_keys), tf.minimum(last, self._num_keys)
