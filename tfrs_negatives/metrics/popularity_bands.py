"""Head, torso and tail of a catalogue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64, check_comparable
from tfrs_negatives.layers.id_counts import checked_counts
from tfrs_negatives.types import CountsLike, TensorLike


class PopularityBands:
    """Says to which band of popularity an item belongs.

    Items are ordered by count, the most popular first and equal counts in the order
    given. With the default, the head is the 20% of the items (rounded up) that come
    first, the torso the next 30%, and the tail the other half. Items that were never
    counted belong to the last band.

    Args:
      counts: How often each item occurs in the training data, as
        `layers.StaticFrequency` takes it.
      bands: Dict from a band's name to the share of items at which it ends, in
        ascending order and the last of them 1.

    Raises:
      ValueError: Counts or ids as `layers.StaticFrequency` refuses them; shares that
        do not ascend to 1.

    Example:
      >>> bands = tn.metrics.PopularityBands({"tea": 9, "milk": 4, "jam": 2, "ham": 1})
      >>> bands(tf.constant(["tea", "ham", "new"])).numpy().tolist()
      [0, 2, 2]
    """

    def __init__(
        self, counts: CountsLike, *, bands: Mapping[str, float] | None = None
    ) -> None:
        bands = {"head": 0.2, "torso": 0.5, "tail": 1.0} if bands is None else bands
        ends = np.array(list(bands.values()), np.float64)
        if not len(ends) or ends[0] <= 0 or ends[-1] != 1 or (np.diff(ends) <= 0).any():
            raise ValueError(
                "`bands` must give ascending shares of items, the last of them 1, such "
                f'as {{"head": 0.2, "tail": 1.0}}, received {bands!r}.'
            )
        ids, keys, counts = checked_counts(counts)
        self.names = list(bands)
        self._example = tf.constant(ids[:1])
        rank = np.empty(len(counts), np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
        # A little less, so that 20% of 15 items is 3 in spite of rounding.
        ends = np.ceil(ends * len(counts) - 1e-9)
        order = np.argsort(keys)
        self._keys = tf.constant(keys[order])
        band = np.searchsorted(ends, rank[order], side="right")
        self._bands = tf.constant(band, tf.int32)

    def __call__(self, ids: TensorLike) -> tf.Tensor:
        """The number of each id's band, int32 in the shape of `ids`.

        Raises:
          ValueError: Strings where integers were counted, or the other way round.
        """
        check_comparable("true_candidate_ids", ids, "ids of counts", self._example)
        keys = tf.reshape(as_int64("true_candidate_ids", ids), [-1])
        places = tf.searchsorted(self._keys, keys)
        places = tf.minimum(places, tf.size(self._keys) - 1)
        known = tf.equal(tf.gather(self._keys, places), keys)
        bands = tf.where(known, tf.gather(self._bands, places), len(self.names) - 1)
        return tf.reshape(bands, tf.shape(ids))
