"""Negatives drawn in proportion to a power of how often items occur."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfrs_negatives._repr import described
from tfrs_negatives.samplers.corpus_counts import (
    check_power,
    counts_in_order,
    powers_of,
)
from tfrs_negatives.samplers.inverse_cdf import InverseCDFSampler
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.samplers.popularity_log_q import PopularityLogQ
from tfrs_negatives.samplers.row_sets import search
from tfrs_negatives.types import CorpusLike, CountsLike, LogQSource

# Masses are whole numbers so that sums of them are exact, in doubles too.
_TOTAL = 2**51


class Popularity(InverseCDFSampler):
    """Draws items with probability in proportion to count**power.

    The power 0.75 is that of word2vec (Mikolov et al., NeurIPS 2013). With 1, items
    are drawn as often as they occur; with 0, items that occur are drawn alike. An
    item with count 0 is never drawn: mix `Uniform` in, with `Mixture`, to reach it.

    Memory in addition to the corpus: 8 bytes an item; with ids looked up, 16 more.

    Args:
      corpus: The items' features; see `Sampler`.
      counts: How often each item occurs: a vector [N] in the corpus's order; or one of
        the forms that name their ids, as `layers.StaticFrequency` takes them, of any
        order. Items that these do not name have the count 0.
      power: From 0 to 1.
      id_feature: Which feature of the corpus holds the ids; see `Sampler`.

    Attributes:
      num_items: N.
      log_q: A layer, a `layers.StaticFrequency`, giving the log probability of ids in
        one draw. Alone, it gives an id that is never drawn that of a count of 1, so
        that in-batch columns with it have a finite correction. In a `Mixture` or
        `layers.MixedLogQ` the id has probability 0 here, and the other sources' there.

    Raises:
      ValueError: As for `Uniform`; counts that are not one an item, of ids that the
        corpus lacks, negative, not finite or all zero; a power out of range.

    Reference:
      * Mikolov et al., "Distributed representations of words and phrases and
        their compositionality", NeurIPS 2013.

    Example:
      >>> counts = {"tea": 9, "milk": 1}
      >>> sampler = tn.samplers.Popularity(["tea", "milk", "jam"], counts, power=0.5)
      >>> np.exp(sampler.log_q(tf.constant(["tea", "milk"]))).round(2).tolist()
      [0.75, 0.25]
    """

    def __init__(
        self,
        corpus: CorpusLike | ItemCorpus,
        counts: CountsLike,
        power: float = 0.75,
        *,
        id_feature: str | None = None,
    ) -> None:
        check_power(power)
        super().__init__(corpus, id_feature)
        counts = counts_in_order(counts, self._corpus)
        self.power = power
        weights = powers_of(counts, power)
        masses = np.rint(weights * (_TOTAL / weights.sum())).astype(np.int64)
        masses[counts > 0] = np.maximum(masses[counts > 0], 1)
        ends = np.cumsum(masses)
        self._total = int(ends[-1])
        self._weights = weights
        with tf.device("CPU:0"):
            self._ends = tf.constant(ends)

    def __repr__(self) -> str:
        return described(self, num_items=self.num_items, power=self.power)

    @property
    def log_q(self) -> LogQSource:
        return self._frequency

    @functools.cached_property
    def _frequency(self) -> PopularityLogQ:
        ids = None if self._corpus.ids is None else self._corpus.ids.numpy()
        # In units of the weight of one occurrence, which is 1 for every power.
        return PopularityLogQ(ids, self._weights)

    def _intervals(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        last = self.num_items - 1
        ends = tf.gather(self._ends, tf.minimum(positions, last))
        starts = tf.gather(self._ends, tf.maximum(positions - 1, 0))
        starts = tf.where(positions > 0, starts, 0)
        return starts, ends - starts

    def _owners(self, numbers: tf.Tensor) -> tf.Tensor:
        return search(self._ends, numbers, side="right")
