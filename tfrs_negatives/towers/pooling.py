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


@tf.custom_gradient
def weighted_sums(weights: tf.Tensor, vectors: tf.Tensor) -> tuple:
    """Each row's vectors, times their weights, summed.

    The gradients are by hand: those of a product and a sum write [B, N, dim] twice as
    often, and an outer product as one of matrices takes four times as long.

    Args:
      weights: [B, N].
      vectors: [B, N, dim].

    Returns:
      [B, dim].
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_weights = tf.linalg.matvec(vectors, upstream)
        return of_weights, weights[:, :, tf.newaxis] * upstream[:, tf.newaxis]

    return tf.linalg.matvec(vectors, weights, transpose_a=True), gradient
