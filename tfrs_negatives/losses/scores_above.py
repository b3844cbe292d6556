"""Which scores are above a bound of their row, and losing these."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives.losses.in_place import overwrite

# Numbers whose largest is compared for all of them. To write a comparison of every
# score costs more than to read all of them once.
_CHUNK = 128

# Fewer at once save nothing.
_SMALLEST_CHUNK = 16

# Above this share of chunks, comparing all scores costs less than listing the pairs.
_MANY_CHUNKS = 0.25


def drop_above(
    logits: tf.Tensor, scores: tf.Tensor, bounds: tf.Tensor, in_place: bool
) -> tf.Tensor:
    """Returns `logits`, -inf where the scores are above the bound of their row.

    Args:
      logits: [n, C].
      scores: [n, C]; may be the logits themselves.
      bounds: [n, 1].
      in_place: Whether `logits` may be changed, see `in_place.overwrite`.
    """
    minus_inf = tf.constant(float("-inf"), logits.dtype)
    num_columns = tf.shape(scores)[1]
    # The largest power of 2 that divides rows into chunks.
    size = tf.minimum(tf.bitwise.bitwise_and(num_columns, -num_columns), _CHUNK)
    size = tf.maximum(size, 1)

    def compared() -> tf.Tensor:
        return tf.where(scores > bounds, minus_inf, logits)

    def by_chunk() -> tf.Tensor:
        chunks = tf.reshape(scores, [-1, num_columns // size, size])
        have_some = tf.reduce_max(chunks, axis=2) > bounds

        def listed() -> tf.Tensor:
            row, chunk = tf.unstack(tf.cast(tf.where(have_some), tf.int32), 2, axis=1)
            starts = row * num_columns + chunk * size
            found = tf.gather_nd(chunks, tf.stack([row, chunk], axis=1))
            places = starts[:, tf.newaxis] + tf.range(size)
            places = tf.boolean_mask(places, found > tf.gather(bounds, row))
            values = tf.fill(tf.shape(places), minus_inf)
            return overwrite(logits, places, values, in_place)

        num_found = tf.reduce_sum(tf.cast(have_some, tf.float32))
        num_chunks = tf.cast(tf.size(have_some), tf.float32)
        return tf.cond(num_found > _MANY_CHUNKS * num_chunks, compared, listed)

    return tf.cond(size < _SMALLEST_CHUNK, compared, by_chunk)
