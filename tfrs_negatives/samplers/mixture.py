"""Negatives drawn from several samplers in changeable shares."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._repr import described
from tfrs_negatives.samplers.draw_context import DrawContext
from tfrs_negatives.samplers.mixture_log_q import MixtureLogQ
from tfrs_negatives.samplers.proposal import Proposal
from tfrs_negatives.samplers.sampler import Sampler
from tfrs_negatives.samplers.stratified_log_q import StratifiedLogQ
from tfrs_negatives.types import LogQSource


class Mixture(Sampler):
    """Draws each item from one of several samplers, chosen by their weights.

    log q of an item is that of the mixture, log sum_c w_c q_c(item), whichever
    sampler it came from (the balance heuristic, Veach & Guibas, SIGGRAPH 1995); with
    rows, q_c is that of the row. A sampler that has nothing for a row (`Mined`, when
    the table lacks the row) leaves its draws out, mask False. They are counted, and
    the other samplers' draws keep their share.

    With a `Mined` or a `Stratified` among the samplers there are only `per_row`
    negatives. All draws are with replacement, those of mined items too. Without
    replacement, a row with fewer items than its share of the draws would get fewer of
    them than q says. A warning counts the rows that have fewer items than their
    expected share at the present weights, and so repeat items.

    Args:
      samplers: Samplers of the same corpus, at least one. Negatives carry the first
        one's features.
      weights: [S] shares, none negative, with a positive sum; normalised when used.

    Attributes:
      num_items: N.
      weights: float32 variable [S]. A running pipeline follows what is assigned.
      num_padded: int64 variable, how many draws there was nothing for.
      log_q: A layer giving log q of ids with the present weights; a number if all
        samplers are `Uniform`. A model that is saved with the layer and loaded again
        has the weights of when it was saved, and follows this variable no more.

    Raises:
      ValueError: No sampler, different corpora, weights out of range.

    Reference:
      * Veach and Guibas, "Optimally combining sampling techniques for Monte Carlo
        rendering", SIGGRAPH 1995.

    Example:
      >>> items = ["tea", "milk", "jam"]
      >>> uniform = tn.samplers.Uniform(items)
      >>> popular = tn.samplers.Popularity(items, {"tea": 3, "milk": 1}, power=1.0)
      >>> sampler = tn.samplers.Mixture([uniform, popular], [0.75, 0.25])
      >>> np.exp(sampler.log_q(tf.constant(items))).round(4)
      array([0.4375, 0.3125, 0.25  ], dtype=float32)
    """

    def __init__(
        self, samplers: Iterable[Sampler], weights: Sequence[float] | np.ndarray
    ) -> None:
        samplers = list(samplers)
        if not samplers:
            raise ValueError("`Mixture` needs at least one sampler, received none.")
        weights = _checked(weights, len(samplers))
        _check_corpora(samplers)
        with_ids = [s._corpus for s in samplers if s._corpus.ids is not None]
        super().__init__((with_ids or [samplers[0]._corpus])[0])
        self.samplers = samplers
        self._rows_only = any(sampler._rows_only for sampler in samplers)
        with tf.device("CPU:0"):
            self.weights = tf.Variable(weights, trainable=False, name="weights")
            self.num_padded = tf.Variable(
                0, trainable=False, dtype=tf.int64, name="num_padded"
            )

    def __repr__(self) -> str:
        return described(self, samplers=self.samplers, weights=self.weights)

    @property
    def log_q(self) -> LogQSource:
        return self._mixture_log_q

    @functools.cached_property
    def _mixture_log_q(self) -> LogQSource:
        sources = [sampler.log_q for sampler in self.samplers]
        if any(isinstance(source, StratifiedLogQ) for source in sources):
            raise ValueError(
                "A `Mixture` with a `Stratified` has no log q of an id: its draws "
                "belong to single rows. Use the feature that `attach` adds, "
                "'<name>_log_q'."
            )
        if all(isinstance(source, float) for source in sources):
            return sources[0]  # All are -log N.
        return MixtureLogQ(sources, self.weights)

    @property
    def _needs(self) -> tuple[str, ...]:
        return tuple(name for sampler in self.samplers for name in sampler._needs)

    def _check_supply(self, num_negatives: int, replacement: bool = False) -> None:
        # A draw stops at weights that went wrong, and says so.
        weights = np.maximum(self.weights.numpy(), 0)
        total = weights.sum()
        for sampler, weight in zip(self.samplers, weights, strict=True):
            # Less what rounding may add; and one, by which empty rows are known.
            expected = math.ceil(num_negatives * weight / total - 1e-3) if weight else 1
            sampler._check_supply(max(expected, 1), replacement=True)

    def _proposal(self, rows: DrawContext) -> Proposal:
        # Not stateful, says this to tf.data: see `Sampler`. The seed as an argument
        # keeps the call from being taken for a constant.
        weights = tf.numpy_function(
            lambda seed: self.weights.numpy(), [rows.seed], tf.float32, stateful=False
        )
        weights = tf.ensure_shape(weights, [len(self.samplers)])
        rows = dataclasses.replace(rows, replacement=True)
        return _Mixed([s._proposal(rows) for s in self.samplers], weights, rows)


class _Mixed:
    def __init__(
        self, proposals: Sequence[Proposal], weights: tf.Tensor, rows: DrawContext
    ) -> None:
        weights = _checks.guard(
            weights,
            tf.debugging.assert_non_negative(
                weights, "`weights` of a mixture must not be negative."
            ),
            tf.debugging.assert_positive(
                tf.reduce_sum(weights), "`weights` of a mixture must not all be 0."
            ),
        )
        self._proposals, self._rows = proposals, rows
        self._weights = weights / tf.reduce_sum(weights)

    def draw(self, num: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        seeds = tf.random.split(seed, len(self._proposals) + 1)
        ends = tf.cumsum(self._weights)
        # Divided by the last, so that no number lies beyond it.
        chosen = tf.searchsorted(
            ends / ends[-1],
            tf.random.stateless_uniform([self._rows.size * num], seeds[0]),
            side="right",
        )
        chosen = tf.reshape(chosen, [self._rows.size, num])
        positions = tf.zeros([self._rows.size, num], tf.int64)
        mask = tf.zeros([self._rows.size, num], tf.bool)
        for index, proposal in enumerate(self._proposals):
            is_chosen = tf.equal(chosen, index)
            drawn, _, was_drawn = proposal.draw(num, seeds[index + 1])
            positions = tf.where(is_chosen, drawn, positions)
            mask = tf.where(is_chosen, was_drawn, mask)
        return positions, self.log_prob(positions), mask

    def log_prob(self, positions: tf.Tensor) -> tf.Tensor:
        log_q = [proposal.log_prob(positions) for proposal in self._proposals]
        log_weights = tf.math.log(self._weights)[:, tf.newaxis, tf.newaxis]
        return tf.reduce_logsumexp(tf.stack(log_q) + log_weights, axis=0)


def _checked(weights: Sequence[float] | np.ndarray, num_samplers: int) -> np.ndarray:
    weights = np.asarray(weights, np.float32)
    if weights.shape != (num_samplers,):
        raise ValueError(
            "`weights` must hold one number for each sampler, expected shape "
            f"({num_samplers},), received {weights.shape}."
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ValueError(
            "`weights` must be finite, none negative and one at least positive, "
            f"received {weights.tolist()}."
        )
    return weights


def _check_corpora(samplers: Sequence[Sampler]) -> None:
    """Raises `ValueError` unless all positions mean the same items."""
    sizes = [sampler.num_items for sampler in samplers]
    if len(set(sizes)) > 1:
        raise ValueError(
            "`samplers` of a mixture must draw from one corpus, received corpora of "
            f"{sizes} items."
        )
    ids = [s._corpus.ids for s in samplers if s._corpus.ids is not None]
    for other in ids[1:]:
        if other is ids[0]:
            continue
        if other.dtype != ids[0].dtype or not bool(tf.reduce_all(other == ids[0])):
            raise ValueError(
                "`samplers` of a mixture must draw from one corpus, received corpora "
                "of different ids, or in different orders."
            )
