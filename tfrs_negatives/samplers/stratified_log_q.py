"""log q of ids drawn from the strata of a batch's positives."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives import _checks, distribute
from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import add_state, keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives.layers.id_counts import ids_and_keys, to_config
from tfrs_negatives.types import Config, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class StratifiedLogQ(keras.layers.Layer):
    """Gives log q of ids in a draw of `samplers.Stratified` that rows share.

    Each stratum that is among the positives gives as many draws as the others, so that
    of s such strata one draw has id j of stratum t with

        q(j) = [t is among them] / s  x  weight of j / weight of its stratum.

    With several replicas a stratum counts once for each that has it.

    State: 20 bytes an id.

    Args:
      ids: [V] distinct ids, integers or strings.
      strata: [V] numbers of their strata, from 0.
      weights: [V] that draws inside a stratum are in proportion to; some may be 0.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives: B, how many leading ids are the rows' positives. None: all.
      num_columns, training: Ignored; the interface of `sampling_correction`.

    Attributes:
      floor: log q of ids that are never drawn: that of the rarest.

    Returns:
      [n] float32, log q: finite, at most 0.
    """

    # Mixtures of sources tell it how many of the ids are positives.
    depends_on_positives = True

    def __init__(
        self,
        ids: ArrayLike,
        strata: ArrayLike,
        weights: ArrayLike,
        name: str | None = None,
    ) -> None:
        ids, keys = ids_and_keys(ids)
        strata = np.asarray(strata, np.int64)
        weights = np.asarray(weights, np.float64)
        super().__init__(name=name, autocast=False, dtype="float32")
        self._ids, self._strata, self._weights = ids, strata, weights
        self._ids_are_strings = tf.convert_to_tensor(ids).dtype == tf.string
        self.num_strata = int(strata.max()) + 1
        with np.errstate(divide="ignore"):
            log_q = np.log(weights / np.bincount(strata, weights)[strata])
        self.floor = float(log_q[weights > 0].min() - np.log(self.num_strata))
        order = np.argsort(keys)
        # The last one is of ids that are no item's.
        self._sorted_keys = self._constant("keys", keys[order])
        self._sorted_log_q = self._constant(
            "log_q", np.append(log_q[order], -np.inf).astype(np.float32)
        )
        self._sorted_strata = self._constant(
            "strata", np.append(strata[order], self.num_strata)
        )
        # Nothing depends on the shapes of a call.
        self.built = True

    def _constant(self, name: str, value: np.ndarray) -> tf.Variable:
        variable = add_state(self, name, list(value.shape), str(value.dtype))
        variable.assign(value)
        return variable

    def __repr__(self) -> str:
        return described(self, num_ids=len(self._ids), num_strata=self.num_strata)

    def get_config(self) -> Config:
        config = to_config(self._ids, self._weights)
        return {
            "name": self.name,
            "ids": config["ids"],
            "strata": self._strata.tolist(),
            "weights": config["counts"],
        }

    @unconverted
    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        log_q = self.drawn_log_q(ids, num_positives)
        return tf.where(log_q > -float("inf"), log_q, self.floor)

    def drawn_log_q(
        self, ids: TensorLike, num_positives: int | tf.Tensor | None = None
    ) -> tf.Tensor:
        """log q of ids [n], -inf for those that are not drawn for these positives."""
        places = self._places(ids)
        strata = tf.gather(self._sorted_strata, places)
        if num_positives is None:
            num_positives = _checks.size(strata)
        # Of each stratum, and of ids that have none, which are not drawn for.
        present = tf.math.unsorted_segment_max(
            tf.ones_like(strata[:num_positives]),
            strata[:num_positives],
            self.num_strata + 1,
        )[: self.num_strata]
        present = distribute.total(tf.cast(tf.maximum(present, 0), tf.float32))
        present = tf.concat([present, [0.0]], axis=0)
        share = tf.math.divide_no_nan(present, tf.reduce_sum(present))
        log_share = tf.math.log(tf.gather(share, strata))
        return log_share + tf.gather(self._sorted_log_q, places)

    def _places(self, ids: TensorLike) -> tf.Tensor:
        """[n] int32, where ids are in order; V where they are not."""
        ids = tf.convert_to_tensor(ids)
        if (ids.dtype == tf.string) != self._ids_are_strings:
            expected = "strings" if self._ids_are_strings else "integers"
            raise ValueError(
                f"`ids` must be {expected}, as the items' ids are, received "
                f"{ids.dtype.name}."
            )
        keys = as_int64("ids", ids)
        places = tf.searchsorted(self._sorted_keys, keys)
        last = tf.size(self._sorted_keys) - 1
        found = tf.gather(self._sorted_keys, tf.minimum(places, last))
        return tf.where(tf.equal(found, keys), places, last + 1)
