"""The rows that a draw is for, and sets of items that each row has."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Rows:
    """What one draw may depend on.

    Attributes:
      seed: [2] int64, of the dataset's element.
      size: B, a scalar int32 tensor; 1 for negatives that all rows share.
      element: The dataset's element; None for shared negatives.
      excluded: [B, P] int64 from `sorted_sets`, positions not to be drawn, or None.
    """

    seed: tf.Tensor
    size: tf.Tensor
    element: dict | None = None
    excluded: tf.Tensor | None = None


def sorted_sets(values, nothing):
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


def members(sets, values):
    """Which values are in their row's set: [B, M] booleans.

    Args:
      sets: [B, P] from `sorted_sets`.
      values: [B, M], below `nothing`.
    """
    sets, values = tf.cast(sets, tf.int64), tf.cast(values, tf.int64)
    # Every set ends in `nothing`, so that a place is found for every value.
    places = tf.searchsorted(sets, values)
    return tf.equal(tf.gather(sets, places, batch_dims=1), values)


def fit(values, num, fill):
    """[B, n] cut or padded to [B, num]."""
    values = values[:, :num]
    return tf.pad(
        values, [[0, 0], [0, num - tf.shape(values)[1]]], constant_values=fill
    )
