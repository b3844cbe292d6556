"""Measures of a ranked list with binary relevance, from the positives' ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from tfrs_negatives.types import TensorLike


def hit_rate(ranks: TensorLike, counts: TensorLike, k: int) -> tf.Tensor:
    """Whether a positive is among the first k."""
    return tf.cast(tf.reduce_any(_within(ranks, k), axis=1), tf.float64)


def recall(ranks: TensorLike, counts: TensorLike, k: int) -> tf.Tensor:
    """The share of the query's positives that is among the first k."""
    hits = tf.reduce_sum(tf.cast(_within(ranks, k), tf.float64), axis=1)
    return tf.math.divide_no_nan(hits, tf.cast(counts, tf.float64))


def mrr(ranks: TensorLike, counts: TensorLike, k: int) -> tf.Tensor:
    """The reciprocal rank of the best positive, 0 if it is not among the first k."""
    reciprocal = tf.where(_within(ranks, k), 1 / tf.maximum(ranks, 1), 0.0)
    # Of no columns at all, the maximum is the lowest number.
    return tf.maximum(tf.reduce_max(reciprocal, axis=1), 0.0)


def ndcg(ranks: TensorLike, counts: TensorLike, k: int) -> tf.Tensor:
    """Discounted gain of the first k over that of a perfect list.

    Positives gain 1 / log2(rank + 1) (Jarvelin and Kekalainen, "Cumulated gain-based
    evaluation of IR techniques", TOIS 2002, with base 2 and the discount used since
    Burges et al. 2005). A perfect list has min(positives, k) of them in front.
    """
    discounts = [1 / math.log2(rank + 1) for rank in range(1, k + 1)]
    gains = tf.constant([0.0, *discounts], tf.float64)
    gain = tf.gather(gains, tf.where(_within(ranks, k), ranks, 0))
    ideal = tf.gather(tf.cumsum(gains), tf.minimum(counts, k))
    return tf.math.divide_no_nan(tf.reduce_sum(gain, axis=1), ideal)


#: A function of ranks `[B, M]` int32 (0 for none), the number of positives of each
#: query `[B]` int32, and k, to `[B]` float64.
Measure: TypeAlias = "Callable[[TensorLike, TensorLike, int], tf.Tensor]"

#: By name.
MEASURES: dict[str, Measure] = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "hit_rate": hit_rate,
}


def _within(ranks: TensorLike, k: int) -> tf.Tensor:
    return (ranks >= 1) & (ranks <= k)
