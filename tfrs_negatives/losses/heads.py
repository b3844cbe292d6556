"""Queries of several heads: a candidate's score is its best head's."""

from __future__ import annotations

import tensorflow as tf


def best(by_head: tf.Tensor) -> tf.Tensor:
    """[n, width]: the best head's scores, where there are heads."""
    return tf.reduce_max(by_head, axis=1) if by_head.shape.rank == 3 else by_head


def best_paired(by_head: tf.Tensor) -> tf.Tensor:
    """[n] from [n, H]: the best head's score of one column a row."""
    return tf.reduce_max(by_head, axis=1) if by_head.shape.rank == 2 else by_head


def to_heads(d_scores: tf.Tensor, by_head: tf.Tensor) -> tf.Tensor:
    """Derivatives [n, H, width]: a score is its best head's; ties share it."""
    is_best = tf.equal(by_head, tf.reduce_max(by_head, axis=1, keepdims=True))
    share = tf.cast(is_best, d_scores.dtype)
    share /= tf.reduce_sum(share, axis=1, keepdims=True)
    return d_scores[:, tf.newaxis, :] * share
