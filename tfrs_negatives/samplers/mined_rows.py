"""Uniform draws from each row's mined items, with replacement or without."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives.samplers.draw_context import DrawContext
from tfrs_negatives.samplers.row_sets import fit, members, sorted_sets


class MinedRows:
    """Draws from the mined items of each row, as `Sampler._proposal` says.

    Args:
      entries: [B, w] int64 positions that the rows may draw from, -1 for none.
      rows: `DrawContext`.
      num_items: N.
    """

    def __init__(self, entries: tf.Tensor, rows: DrawContext, num_items: int) -> None:
        # A column without items, so that there is one to look at.
        entries = tf.pad(entries, [[0, 0], [0, 1]], constant_values=-1)
        self._entries, self._num_items = entries, num_items
        self._replacement = rows.replacement
        self._valid = entries >= 0
        if rows.excluded is not None:
            excluded = members(rows.excluded, tf.maximum(entries, 0))
            self._valid = tf.logical_and(self._valid, tf.logical_not(excluded))
        self._count = tf.math.count_nonzero(self._valid, axis=1, keepdims=True)
        self._log_q = -tf.math.log(tf.cast(self._count, tf.float32))

    def draw(self, num: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        draw = self._independent if self._replacement else self._distinct
        positions, mask = draw(num, seed)
        log_q = tf.broadcast_to(self._log_q, tf.shape(positions))
        return tf.maximum(positions, 0), log_q, mask

    def _independent(self, num: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws with replacement."""
        shape = [tf.shape(self._entries)[0], num]
        uniform = tf.random.stateless_uniform(shape, seed, dtype=tf.float64)
        turns = tf.cast(uniform * tf.cast(self._count, tf.float64), tf.int64)
        # The column of the first valid entry, of the second and so on.
        ends = tf.cumsum(tf.cast(self._valid, tf.int64), axis=1)
        columns = tf.searchsorted(ends, turns, side="right")
        columns = tf.minimum(columns, tf.shape(ends)[1] - 1)
        positions = tf.gather(self._entries, columns, batch_dims=1)
        return positions, tf.broadcast_to(self._count > 0, tf.shape(positions))

    def _distinct(self, num: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws without replacement."""
        # The order of random keys is a random order; two of 31 bits hardly ever tie.
        keys = tf.random.stateless_uniform(
            tf.shape(self._entries), seed, 0, 2**31 - 1, tf.int32
        )
        keys = tf.where(self._valid, keys, -1)
        keys, columns = tf.math.top_k(keys, tf.minimum(num, tf.shape(keys)[1]))
        positions = tf.gather(self._entries, columns, batch_dims=1)
        return fit(positions, num, 0), fit(keys >= 0, num, False)

    def log_prob(self, positions: tf.Tensor) -> tf.Tensor:
        valid = tf.where(self._valid, self._entries, self._num_items)
        drawable = members(sorted_sets(valid, self._num_items), positions)
        return tf.where(drawable, self._log_q, -float("inf"))
