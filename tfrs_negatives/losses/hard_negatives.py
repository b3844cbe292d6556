"""The hardest negatives of each row, and where they came from."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives.losses.in_place import (
    get_each,
    row_starts,
    set_each,
)


def hardest(
    logits: tf.Tensor, positives: tf.Tensor, k: tf.Tensor, in_place: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Each row's positive, then k best negatives; and the columns they came from."""
    own = get_each(logits, positives)
    minus_inf = tf.fill(tf.shape(own), tf.constant(float("-inf"), own.dtype))
    # The values are constants, so the reading of `own` must be waited for.
    with tf.control_dependencies([own]):
        negatives = set_each(logits, positives, minus_inf, in_place)
    # A batch without columns has -1 beside the positive.
    k = tf.maximum(tf.minimum(k, tf.shape(logits)[1] - 1), 0)
    # Their order is of no use, and takes a sixth to a third of the time.
    best = tf.math.top_k(negatives, k, sorted=False)
    return (
        tf.concat([own[:, tf.newaxis], best.values], axis=1),
        tf.concat([positives[:, tf.newaxis], best.indices], axis=1),
    )


def spread(values: tf.Tensor, columns: tf.Tensor, num_columns: tf.Tensor) -> tf.Tensor:
    """Puts values of what `hardest` returned back to their columns, 0 elsewhere."""
    num_rows = tf.shape(values)[0]
    places = row_starts(num_rows, num_columns)[:, tf.newaxis] + columns[:, 1:]
    # A matrix of zeros may be a constant of the graph, which nothing may write to.
    flat = tf.scatter_nd(
        tf.reshape(places, [-1, 1]),
        tf.reshape(values[:, 1:], [-1]),
        [num_rows * num_columns],
    )
    matrix = tf.reshape(flat, [num_rows, num_columns])
    # Last: where fewer negatives are allowed than kept, the positive's own column is
    # among those of -inf.
    return set_each(matrix, columns[:, 0], values[:, 0], in_place=True)
