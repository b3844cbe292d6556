"""Item probabilities from known counts."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import add_state, keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives.layers.id_counts import checked_counts, from_config, to_config
from tfrs_negatives.types import Config, CountsLike, KerasLayer, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class StaticFrequency(keras.layers.Layer):
    """Gives log q of ids from how often each occurs in the training data.

    With share p = (count + a) / sum of (count + a), a the smoothing, q is

    * p: the probability that one draw from the data gives the id (Bengio & Senecal
      2003); right for in-batch negatives, where a repeated column stays in the
      softmax;
    * with `batch_size` B, `1 - (1 - p)^B`: the probability that a batch of B draws
      has the id at all; right where repeated columns are merged.

    An id never counted gets the q of an id counted a times, or once if there is no
    smoothing: it can be met, so its q is not 0.

    State: 12 bytes an id.

    Args:
      counts: How often each id occurs: a vector [V], of the ids 0 to V - 1; a mapping
        from id to count; a pandas Series with the ids as its index
        (`value_counts()`); a pair `(ids, counts)`, as `data.count_ids` returns it; or a
        `tf.data.Dataset` of ids, which is read once and counted.
      batch_size: B, for the probability of occurring in a batch. None: in a draw.
      smoothing: a >= 0, added to every count.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives, num_columns, training: Ignored; the interface of
        `sampling_correction`.

    Returns:
      [n] float32, log q: finite, at most 0.

    Raises:
      ValueError: Counts in another form, negative, not finite or all zero; ids that are
        repeated or not as many as counts; options out of range; ids of another
        kind when called.

    Example:
      >>> frequency = tn.layers.StaticFrequency({"a": 3, "b": 1})
      >>> tf.exp(frequency(tf.constant(["b", "a"]))).numpy()
      array([0.25, 0.75], dtype=float32)
    """

    def __init__(
        self,
        counts: CountsLike,
        *,
        batch_size: int | None = None,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        if batch_size is not None:
            _checks.check_at_least("batch_size", batch_size, 1)
        _checks.check_number("smoothing", smoothing)
        if not 0 <= smoothing < math.inf:
            raise ValueError(
                f"`smoothing` must be at least 0 and finite, received {smoothing}. It "
                "is added to every count."
            )
        ids, keys, counts = checked_counts(counts)
        super().__init__(name=name, autocast=False, dtype="float32")
        self.batch_size = batch_size
        self.smoothing = smoothing
        self._counts = counts
        self._ids = ids
        self._ids_are_strings = tf.convert_to_tensor(ids).dtype == tf.string

        order = np.argsort(keys)
        log_q = self._log_q(counts)[order]
        self._sorted_keys = _constant(self, "keys", keys[order])
        self._sorted_log_q = _constant(self, "log_q", log_q.astype(np.float32))
        self._unseen_log_q = float(self._log_q(np.zeros(1))[0])

    def _log_q(self, counts: np.ndarray) -> np.ndarray:
        """log q of ids with these counts, in float64."""
        total = self._counts.sum() + self.smoothing * len(self._counts)
        counts = counts + self.smoothing
        share = np.where(counts > 0, counts / total, 1 / max(total, 1.0))
        if self.batch_size is None:
            return np.log(share)
        # 1 - (1 - p)^B, exact for p near 0 and near 1.
        with np.errstate(divide="ignore"):  # log 0 where p = 1.
            return np.log(-np.expm1(self.batch_size * np.log1p(-share)))

    def __repr__(self) -> str:
        return described(
            self,
            num_ids=len(self._ids),
            batch_size=self.batch_size,
            smoothing=self.smoothing,
        )

    def get_config(self) -> Config:
        return {
            "name": self.name,
            **to_config(self._ids, self._counts),
            "batch_size": self.batch_size,
            "smoothing": self.smoothing,
        }

    @classmethod
    def from_config(cls, config: Config) -> StaticFrequency:
        return cls(**from_config(config))

    @unconverted
    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
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


def _constant(layer: KerasLayer, name: str, value: np.ndarray) -> tf.Variable:
    variable = add_state(layer, name, list(value.shape), str(value.dtype))
    variable.assign(value)
    return variable
