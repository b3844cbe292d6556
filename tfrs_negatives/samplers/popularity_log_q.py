"""log q of ids drawn in proportion to their weights."""

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers.static_frequency import StaticFrequency


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class PopularityLogQ(StaticFrequency):
    """Gives log q of ids of which some are never drawn.

    Called alone, it gives those a floor, the q of a weight of 1, so that columns from
    elsewhere have a finite correction. Mixtures of sources ask `drawn_log_q` instead,
    in which such ids have no probability.

    Args:
      weights: [V] weights that draws are in proportion to, some of them 0.
      ids: [V] distinct ids, integers or strings (text, or bytes of any kind). None:
        0 to V - 1.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives, num_columns, training: Ignored; the interface of
        `sampling_correction`.

    Attributes:
      floor: log q of ids that are never drawn.

    Returns:
      [n] float32, log q: finite, at most 0.
    """

    def __init__(self, weights, ids=None, name=None):
        weights = np.asarray(weights, np.float64)
        ids = np.arange(len(weights)) if ids is None else _with_bytes(np.asarray(ids))
        drawn = weights > 0
        super().__init__(weights[drawn], ids[drawn], name=name)
        self.floor, self._unseen_log_q = self._unseen_log_q, -float("inf")

    def get_config(self):
        ids = self._ids
        if self._ids_are_strings:
            ids = np.array([i.decode("utf-8", "surrogateescape") for i in ids])
        return {
            "name": self.name,
            "weights": self._counts.tolist(),
            "ids": ids.tolist(),
        }

    def call(self, ids, num_positives=None, num_columns=None, training=False):
        log_q = self.drawn_log_q(ids)
        return tf.where(log_q > -float("inf"), log_q, self.floor)

    def drawn_log_q(self, ids):
        """log q of ids [n], -inf for those that are never drawn."""
        return super().call(ids)


def _with_bytes(ids):
    """Strings as bytes. Those that are not UTF-8 pass through a config as text."""
    if ids.dtype.kind not in "SUO":
        return ids
    return np.array(
        [
            i.encode("utf-8", "surrogateescape") if isinstance(i, str) else i
            for i in ids.tolist()
        ],
        object,
    )
