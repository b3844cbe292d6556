"""Embeddings that several rows take."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def gather_rows(embeddings: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """`tf.gather(embeddings, rows)`, whose gradient is summed in float32 at least.

    The gradient of an embedding is the sum over all rows that take it. In half
    precision such a sum stops growing where it is some hundred times what is added:
    bfloat16 has 8 significant bits.

    Args:
      embeddings: [n, ...] of a floating dtype.
      rows: [m] integers.

    Returns:
      [m, ...], float32 for half precision, else of the dtype of `embeddings`.
    """
    if embeddings.dtype not in (tf.float16, tf.bfloat16):
        return tf.gather(embeddings, rows)

    @tf.custom_gradient
    def gathered(
        embeddings: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # That of `tf.gather` would be cast row by row, before it is summed.
            total = tf.math.unsorted_segment_sum(
                upstream, rows, tf.shape(embeddings)[0]
            )
            return tf.cast(total, embeddings.dtype)

        return tf.gather(tf.cast(embeddings, tf.float32), rows), gradient

    return gathered(embeddings)
