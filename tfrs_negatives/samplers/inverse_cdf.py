"""Draws by inverting the cumulative distribution, around what is excluded."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives.samplers.draw_context import DrawContext
from tfrs_negatives.samplers.proposal import Proposal
from tfrs_negatives.samplers.row_sets import members
from tfrs_negatives.samplers.sampler import Sampler


class InverseCDFSampler(Sampler):
    """A sampler with one fixed distribution: item i has `mass` m_i of a `total`.

    Masses are integers, and item i owns the interval [m_0 + ... + m_(i-1), that + m_i)
    of [0, total). With no item excluded, a draw is the owner of a uniform number.
    Otherwise the number is uniform over what is left and steps over the intervals of
    the excluded items that lie before it: exactly the distribution restricted to the
    other items, with nothing drawn twice and nothing approximated.

    Subclasses set `_total`, at most 2^52, and define `_intervals` and `_owners`.
    """

    def _intervals(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Starts and masses, int64, of positions; (total, 0) of position N."""
        raise NotImplementedError

    def _owners(self, numbers: tf.Tensor) -> tf.Tensor:
        """Positions of the items whose intervals hold these numbers."""
        raise NotImplementedError

    def _proposal(self, rows: DrawContext) -> Proposal:
        return _InverseCDF(self, rows)


class _InverseCDF:
    def __init__(self, sampler: InverseCDFSampler, rows: DrawContext) -> None:
        self._sampler = sampler
        self._rows = rows
        self._left = tf.fill([rows.size, 1], tf.constant(sampler._total, tf.int64))
        if rows.excluded is not None:
            starts, masses = sampler._intervals(rows.excluded)
            before = tf.cumsum(masses, axis=1, exclusive=True)
            self._left -= tf.reduce_sum(masses, axis=1, keepdims=True)
            # Where the excluded intervals start once those before them are cut out.
            # Those of no item start at the end of what is left: never stepped over.
            self._gaps = starts - before
            self._skipped = tf.pad(before + masses, [[0, 0], [1, 0]])

    def draw(self, num: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        uniform = tf.random.stateless_uniform(
            [self._rows.size, num], seed, dtype=tf.float64
        )
        # A number's probability is off by at most 2^-52.
        numbers = tf.cast(uniform * tf.cast(self._left, tf.float64), tf.int64)
        numbers = tf.maximum(tf.minimum(numbers, self._left - 1), 0)
        if self._rows.excluded is not None:
            steps = tf.searchsorted(self._gaps, numbers, side="right")
            numbers += tf.gather(self._skipped, steps, batch_dims=1)
        positions = self._sampler._owners(
            tf.minimum(numbers, tf.constant(self._sampler._total - 1, tf.int64))
        )
        mask = tf.broadcast_to(self._left > 0, tf.shape(positions))
        return positions, self._log_q(positions), mask

    def log_prob(self, positions: tf.Tensor) -> tf.Tensor:
        log_q = self._log_q(positions)
        if self._rows.excluded is None:
            return log_q
        excluded = members(self._rows.excluded, positions)
        return tf.where(excluded, tf.constant(-float("inf")), log_q)

    def _log_q(self, positions: tf.Tensor) -> tf.Tensor:
        _, masses = self._sampler._intervals(positions)
        left = tf.cast(tf.maximum(self._left, 1), tf.float64)
        return tf.cast(tf.math.log(tf.cast(masses, tf.float64) / left), tf.float32)
