"""Item probabilities from known counts."""

import collections.abc

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import add_state, keras


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class StaticFrequency(keras.layers.Layer):
    """Gives log q of ids from how often each occurs in the training data.

    q is the share of an id's count in the sum of all counts: the probability
    that one draw from the data gives the id (Bengio & Senecal 2003).

    An id never counted (or counted 0 times) gets the q of an id counted once:
    it can be met, so its q is not 0.

    State: 12 bytes an id.

    Args:
      counts: [V] counts of the ids 0 to V - 1, or of `ids`; or a mapping from id
        to count.
      ids: [V] distinct ids, integers or strings, one for each count. None: the
        counts' positions, or the mapping's keys.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives, training: Ignored; the interface of `sampling_correction`.

    Returns:
      [n] float32, log q: finite, at most 0.

    Raises:
      ValueError: Counts that are negative, not finite or all zero; ids that are
        repeated or not as many as counts; ids of another kind when called.
    """

    def __init__(self, counts, ids=None, name=None):
        if isinstance(counts, collections.abc.Mapping):
            if ids is not None:
                raise ValueError(
                    "A mapping of counts has its ids: expected `ids=None`, received "
                    "both. Pass two lists, or the mapping alone."
                )
            ids, counts = list(counts.keys()), list(counts.values())
        counts = np.asarray(counts, np.float64)
        _check_counts(counts)
        ids = np.arange(len(counts)) if ids is None else np.asarray(ids)
        if len(ids) != len(counts):
            raise ValueError(
                f"Expected one id for each count, received {len(ids)} ids and "
                f"{len(counts)} counts."
            )
        super().__init__(name=name, autocast=False, dtype="float32")
        self._counts = counts
        self._ids = ids
        self._ids_are_strings = tf.convert_to_tensor(ids).dtype == tf.string

        keys = as_int64("ids", ids).numpy()
        order = np.argsort(keys)
        if np.any(np.diff(keys[order]) == 0):
            raise ValueError("`ids` must be distinct, received some more than once.")
        log_q = np.log(np.where(counts > 0, counts, 1.0) / counts.sum())
        self._sorted_keys = _constant(self, "keys", keys[order])
        self._sorted_log_q = _constant(self, "log_q", log_q[order].astype(np.float32))
        self._unseen_log_q = float(-np.log(max(counts.sum(), 1.0)))

    def get_config(self):
        return {
            "name": self.name,
            "counts": self._counts.tolist(),
            "ids": self._ids.tolist(),
        }

    def call(self, ids, num_positives=None, training=False):
        ids = tf.convert_to_tensor(ids)
        if (ids.dtype == tf.string) != self._ids_are_strings:
            expected = "strings" if self._ids_are_strings else "integers"
            raise ValueError(
                f"`ids` must be {expected}, as the counted ids are, received "
                f"{ids.dtype.name}."
            )
        keys = as_int64("ids", ids)
        places = tf.searchsorted(self._sorted_keys, keys)
        places = tf.minimum(places, tf.size(self._sorted_keys) - 1)
        found = tf.equal(tf.gather(self._sorted_keys, places), keys)
        return tf.where(
            found, tf.gather(self._sorted_log_q, places), self._unseen_log_q
        )


def _constant(layer, name, value):
    variable = add_state(layer, name, list(value.shape), str(value.dtype))
    variable.assign(value)
    return variable


def _check_counts(counts):
    if counts.ndim != 1 or not len(counts):
        raise ValueError(
            f"`counts` must be a non-empty vector, received shape {counts.shape}."
        )
    if not np.all(np.isfinite(counts)) or np.any(counts < 0) or not np.any(counts > 0):
        raise ValueError(
            "`counts` must be finite, none negative and one at least positive, "
            f"received values from {counts.min()} to {counts.max()}."
        )
