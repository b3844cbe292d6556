"""From several vectors a row to one."""

from __future__ import annotations

import tensorflow as tf


def mean_of_rows(vectors: tf.RaggedTensor) -> tf.Tensor:
    """The mean of each row's vectors, zeros for a row without.

    Args:
      vectors: Ragged [B, (V), dim].

    Returns:
      [B, dim].
    """
    flat = vectors.flat_values
    num_rows = vectors.nrows()
    rows = tf.cast(vectors.value_rowids(), num_rows.dtype)
    sums = tf.math.unsorted_segment_sum(flat, rows, num_rows)
    counts = tf.cast(vectors.row_lengths(), flat.dtype)[:, tf.newaxis]
    return tf.math.divide_no_nan(sums, counts)
