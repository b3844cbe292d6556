"""Draws inside of strata, by inverting each one's cumulative distribution."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives.samplers.draw_context import DrawContext
from tfrs_negatives.samplers.row_sets import members, search, sorted_sets


class StratumIntervals:
    """Items in the order of their strata, each with an interval of integers.

    Item i has `mass` m_i, and a stratum's items own one interval after the other: those
    of a stratum are [begin, end) together.

    Args:
      strata: [N] int64, numbers of strata.
      masses: [N] int64, in the items' order.

    Attributes:
      strata: [N + 1] int64, and S for no item.
      bounds: [S + 1, 2] int64, begin and end of each stratum, 0 and 0 of none.
    """

    def __init__(self, strata: np.ndarray, masses: np.ndarray) -> None:
        num_strata = int(strata.max()) + 1
        order = np.argsort(strata, kind="stable")
        ends = np.cumsum(masses[order])
        lasts = np.cumsum(np.bincount(strata, minlength=num_strata)) - 1
        stops = ends[lasts]
        starts = np.concatenate([[0], stops[:-1]])
        bounds = np.append(np.stack([starts, stops], axis=1), [[0, 0]], axis=0)
        with tf.device("CPU:0"):
            self.strata = tf.constant(np.append(strata, num_strata))
            self.bounds = tf.constant(bounds)
            self._order = tf.constant(order)
            self._rank = tf.constant(np.append(np.argsort(order), len(order)))
            self._ends = tf.constant(ends)

    def of_ranks(self, ranks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Starts and masses, int64, of items by their ranks, all below N."""
        ends = tf.gather(self._ends, ranks)
        starts = tf.gather(self._ends, tf.maximum(ranks - 1, 0))
        starts = tf.where(ranks > 0, starts, 0)
        return starts, ends - starts

    def ranks(self, positions: tf.Tensor) -> tf.Tensor:
        """Places of items, or of N for none, in the order of strata; N for none."""
        return tf.gather(self._rank, positions)

    def owners(self, numbers: tf.Tensor) -> tf.Tensor:
        """Positions of the items whose intervals hold these numbers."""
        ranks = search(self._ends, numbers, side="right")
        last = tf.size(self._ends, tf.int64) - 1
        return tf.gather(self._order, tf.minimum(ranks, last))


class StratumDraws:
    """Draws from the stratum of each row, as `Sampler._proposal` says.

    Args:
      intervals: `StratumIntervals` of N items in S strata.
      strata: [B] int64, the rows' strata.
      rows: `DrawContext`.
    """

    def __init__(
        self, intervals: StratumIntervals, strata: tf.Tensor, rows: DrawContext
    ) -> None:
        self._intervals, self._rows = intervals, rows
        self._strata = strata[:, tf.newaxis]
        bounds = tf.gather(intervals.bounds, strata)
        self._begin, self._end = bounds[:, :1], bounds[:, 1:]
        self._left = self._end - self._begin
        if rows.excluded is not None:
            self._step_over(rows.excluded)

    def _step_over(self, excluded: tf.Tensor) -> None:
        """As in `inverse_cdf`, for those of the row's stratum."""
        intervals = self._intervals
        nothing = tf.size(intervals.strata, tf.int64) - 1
        in_stratum = tf.equal(tf.gather(intervals.strata, excluded), self._strata)
        ranks = tf.where(in_stratum, intervals.ranks(excluded), nothing)
        ranks = sorted_sets(ranks, nothing)
        starts, masses = intervals.of_ranks(tf.minimum(ranks, nothing - 1))
        is_item = ranks < nothing
        starts = tf.where(is_item, starts, self._end)
        masses = tf.where(is_item, masses, 0)
        before = tf.cumsum(masses, axis=1, exclusive=True)
        self._left -= tf.reduce_sum(masses, axis=1, keepdims=True)
        self._gaps = starts - self._begin - before
        self._skipped = tf.pad(before + masses, [[0, 0], [1, 0]])

    def draw(self, num: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        shape = tf.stack([tf.shape(self._strata)[0], num])
        uniform = tf.random.stateless_uniform(shape, seed, dtype=tf.float64)
        numbers = tf.cast(uniform * tf.cast(self._left, tf.float64), tf.int64)
        numbers = tf.maximum(tf.minimum(numbers, self._left - 1), 0)
        if self._rows.excluded is not None:
            steps = tf.searchsorted(self._gaps, numbers, side="right")
            numbers += tf.gather(self._skipped, steps, batch_dims=1)
        positions = self._intervals.owners(self._begin + numbers)
        mask = tf.broadcast_to(self._left > 0, tf.shape(positions))
        return positions, self._log_q(positions), mask

    def log_prob(self, positions: tf.Tensor) -> tf.Tensor:
        intervals = self._intervals
        possible = tf.equal(tf.gather(intervals.strata, positions), self._strata)
        if self._rows.excluded is not None:
            possible &= ~members(self._rows.excluded, positions)
        none = tf.constant(-float("inf"))
        return tf.where(possible, self._log_q(positions), none)

    def _log_q(self, positions: tf.Tensor) -> tf.Tensor:
        _, masses = self._intervals.of_ranks(self._intervals.ranks(positions))
        left = tf.cast(tf.maximum(self._left, 1), tf.float64)
        return tf.cast(tf.math.log(tf.cast(masses, tf.float64) / left), tf.float32)
