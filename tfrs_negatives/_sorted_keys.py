"""Keys in order, so that all places of a key are found by binary search."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla


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
        if compiled_by_xla():
            first, last = self._merged(entries)
        else:
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

    def _merged(self, entries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where binary search would find them, from sorting them with the keys.

        XLA's own search compares every entry with every key, all of these at once.
        """
        num_entries, num_keys = tf.size(entries), tf.size(self._sorted)

        def keys_before(entries_first: bool) -> tf.Tensor:
            if entries_first:
                parts, begin = [entries, self._sorted], 0
            else:
                parts, begin = [self._sorted, entries], num_keys
            order = tf.argsort(tf.concat(parts, axis=0), stable=True)
            places = order - begin
            is_key = (places < 0) | (places >= num_entries)
            count = tf.cumsum(tf.cast(is_key, tf.int32))
            # Keys write behind the entries, to a place that is cut off.
            places = tf.where(is_key, num_entries, places)
            found = tf.zeros([num_entries + 1], tf.int32)
            found = tf.tensor_scatter_nd_update(found, places[:, tf.newaxis], count)
            return found[:num_entries]

        # Sorting keeps the order of equals: of an entry and the keys that equal it too.
        return keys_before(True), keys_before(False)
