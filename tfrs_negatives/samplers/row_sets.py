"""Sets of items that each row has, in order, and look-ups in them."""

from __future__ import annotations

import tensorflow as tf


def sorted_sets(values: tf.Tensor, nothing: int | tf.Tensor) -> tf.Tensor:
    """Sorts each row, with repeats and `nothing` last.

    Args:
      values: [B, P] integers, at most `nothing`.
      nothing: Value that stands for no member.

    Returns:
      [B, P + 1]: distinct members in ascending order, then `nothing`, at least once.
    """
    nothing = tf.cast(nothing, values.dtype)
    values = tf.pad(values, [[0, 0], [0, 1]], constant_values=nothing)
    values = tf.sort(values, axis=1)
    repeats = tf.equal(values[:, 1:], values[:, :-1])
    rest = tf.where(repeats, nothing, values[:, 1:])
    return tf.sort(tf.concat([values[:, :1], rest], axis=1), axis=1)


def members(sets: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Which values are in their row's set: [B, M] booleans.

    Args:
      sets: [B, P] from `sorted_sets`.
      values: [B, M], below `nothing`.
    """
    sets, values = tf.cast(sets, tf.int64), tf.cast(values, tf.int64)
    # Every set ends in `nothing`, so that a place is found for every value.
    places = tf.searchsorted(sets, values)
    return tf.equal(tf.gather(sets, places, batch_dims=1), values)


def search(ordered: tf.Tensor, values: tf.Tensor, side: str = "left") -> tf.Tensor:
    """Places of values among ordered ones: int64 of their shape, which may be empty.

    Args:
      ordered: [n] ascending.
      values: Any shape; of the same dtype.
      side: As for `tf.searchsorted`.
    """
    # One value more: `tf.searchsorted` cannot look for none.
    flat = tf.pad(tf.reshape(values, [-1]), [[0, 1]])
    places = tf.searchsorted(ordered, flat, side=side, out_type=tf.int64)
    return tf.reshape(places[:-1], tf.shape(values))


def fit(values: tf.Tensor, num: int, fill: int | bool) -> tf.Tensor:
    """[B, n] cut or padded to [B, num]."""
    values = values[:, :num]
    return tf.pad(
        values, [[0, 0], [0, num - tf.shape(values)[1]]], constant_values=fill
    )
