"""Inputs of a signature that hold one value for each row, or one for all."""

from __future__ import annotations

import tensorflow as tf


def per_row(name: str, values: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    """`values` `[1]` or `[num_rows]` as `[num_rows]`; checked when the graph runs."""
    size = tf.size(values)
    fits = tf.equal(size, 1) | tf.equal(size, num_rows)
    check = assert_that(fits, f"`{name}` must have one value per query, or one.")
    with tf.control_dependencies([check]):
        return tf.broadcast_to(values, [num_rows])


def assert_that(condition: tf.Tensor, message: str) -> tf.Operation | None:
    """Raises `tf.errors.InvalidArgumentError` where a scalar bool is False.

    One operation: `tf.debugging.Assert` makes a branch of it, whose cost shows in the
    time of a single query.
    """
    return tf.raw_ops.Assert(condition=condition, data=[message])
