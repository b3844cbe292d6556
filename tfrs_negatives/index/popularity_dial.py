"""Popularity that a query weighs, as one more dimension of queries and candidates.

Post-hoc logit adjustment (Menon et al., "Long-tail learning via logit adjustment", ICLR
2021): a share of the candidates' log probability is subtracted, after training, from
the scores of a model of log p(candidate | query).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives.index.popularity_scale import MAX_DISCOUNT, PopularityScale
from tfrs_negatives.index.row_options import assert_that
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.types import TensorLike


class PopularityDial:
    """`score - beta * log q(candidate)` as an inner product.

    A candidate's further dimension holds its log q, centred and scaled, a query's -beta
    times the scale: see `PopularityScale`.

    Args:
      log_q: `[N]` float64, finite, as `checked_log_q` returns it.
      searcher: `Searcher` of the candidates without popularity.
    """

    def __init__(self, log_q: np.ndarray, searcher: Searcher) -> None:
        self._searcher = searcher
        self._scale = PopularityScale.of(log_q, np.asarray(searcher.candidates()))
        self._column = self._scale.column(log_q)

    def candidates(self) -> tf.Tensor:
        """The candidates with their popularity, `[N, d + 1]`."""
        candidates = self._searcher.candidates()
        return tf.concat([candidates, self._column[:, np.newaxis]], axis=1)

    def queries(self, queries: TensorLike, discounts: tf.Tensor) -> tf.Tensor:
        """`queries` `[B, d]` with their discounts `[B]`, `[B, d + 1]` float32.

        Raises:
          ValueError: as `Searcher.checked_queries`.
        """
        queries = self._searcher.checked_queries(queries)
        column = -self._scale.scale * discounts[:, tf.newaxis]
        return tf.concat([queries, column], axis=1)

    def scores(self, products: tf.Tensor, discounts: tf.Tensor) -> tf.Tensor:
        """Inner products `[B, k]` of these as `score - beta * log q`."""
        return products - self._scale.centre * discounts[:, tf.newaxis]


def checked_discounts(discounts: tf.Tensor) -> tf.Tensor:
    """Returns `discounts` `[B]` float32, checked when the graph runs."""
    moderate = tf.reduce_all(tf.abs(discounts) <= MAX_DISCOUNT)  # False for NaN.
    check = assert_that(
        moderate,
        f"`popularity_discount` must be numbers from -{MAX_DISCOUNT:,.0f} to "
        f"{MAX_DISCOUNT:,.0f}, received NaN, infinity or a larger one.",
    )
    with tf.control_dependencies([check]):
        return tf.identity(discounts)
