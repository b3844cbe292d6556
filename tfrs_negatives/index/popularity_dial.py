"""Popularity that a query weighs, as one more dimension of queries and candidates.

Post-hoc logit adjustment (Menon et al., "Long-tail learning via logit adjustment", ICLR
2021): a share of the candidates' log probability is subtracted, after training, from
the scores of a model of log p(candidate | query).
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tfrs_negatives.index.row_options import assert_that
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.types import TensorLike

#: The largest discount, in size: beyond it float32 has no digits left for the scores.
MAX_DISCOUNT = 1e6

# The standard deviation of the further dimension of candidates, as a share of that of
# all others together. Any is exact; docs/retrieval_index.md says what it does to ScaNN.
_SHARE = 0.125


class PopularityDial:
    """`score - beta * log q(candidate)` as an inner product.

    A candidate's further dimension holds its log q, centred and scaled, a query's -beta
    times the scale: ScaNN sorts candidates by where they lie, so that a dimension much
    longer than the others would hide these. The scale is a power of two, and rounds
    nothing.

    Args:
      log_q: `[N]` float64, finite, as `checked_log_q` returns it.
      searcher: `Searcher` of the candidates without popularity.
    """

    def __init__(self, log_q: np.ndarray, searcher: Searcher) -> None:
        self._searcher = searcher
        self._centre = float(np.float32(log_q.mean()))
        spread = math.sqrt(
            float(np.var(np.asarray(searcher.candidates()), axis=0).sum())
        )
        spread *= _SHARE
        scale = 0
        if spread > 0 and log_q.std() > 0:
            # Within bounds, so that neither side can leave float32.
            scale = max(-20, min(20, round(math.log2(log_q.std() / spread))))
        self._scale = 2.0**scale
        self._column = ((log_q - self._centre) / self._scale).astype(np.float32)

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
        column = -self._scale * discounts[:, tf.newaxis]
        return tf.concat([queries, column], axis=1)

    def scores(self, products: tf.Tensor, discounts: tf.Tensor) -> tf.Tensor:
        """Inner products `[B, k]` of these as `score - beta * log q`."""
        return products - self._centre * discounts[:, tf.newaxis]


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


def checked_log_q(popularity: TensorLike, num_rows: int) -> np.ndarray:
    """Popularity as log q, `[num_rows]` float64.

    Args:
      popularity: log q (floating-point numbers), or counts (integers), of which 0 is
        taken as 1.
      num_rows: Number of candidates.

    Raises:
      ValueError: Another number, NaN or infinity, positive log q, negative counts, or
        none above 0.
    """
    values = np.asarray(popularity)
    if values.shape != (num_rows,):
        raise ValueError(
            f"`popularity` must have one value per indexed candidate ({num_rows}), "
            f"received shape {values.shape}."
        )
    if values.dtype.kind in "iu":
        if values.min() < 0 or not values.any():
            raise ValueError(
                "`popularity` of integers are counts, at least 0 and not all 0, "
                f"received {values.min()} to {values.max()}. Pass log q as "
                "floating-point numbers."
            )
        counts = values.astype(np.float64)
        return np.log(np.maximum(counts, 1)) - math.log(counts.sum())
    try:
        if values.dtype.kind in "bOSU":
            raise ValueError
        # Through TensorFlow's dtypes, for bfloat16.
        log_q = values.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            "`popularity` must be log q, floating-point numbers, or counts, integers, "
            f"received {values.dtype.name}."
        ) from None
    bad = np.flatnonzero(~np.isfinite(log_q))
    if len(bad):
        raise ValueError(
            f"`popularity` must be finite, but {len(bad)} values are NaN or infinite, "
            f"the first of them {log_q[bad[0]]} in row {bad[0]}. Where it is the log "
            "of counts of 0, pass the counts, as integers: 0 is then taken as 1."
        )
    if log_q.max() > 0:
        raise ValueError(
            "`popularity` of floating-point numbers is log q, at most 0, received "
            f"{log_q.max():g} in row {log_q.argmax()}. Pass counts as integers, and "
            "the log of probabilities."
        )
    return log_q
