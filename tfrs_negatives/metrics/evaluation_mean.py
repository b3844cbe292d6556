"""A weighted mean whose reset begins an evaluation."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.metrics.rank_measures import Measure


class EvaluationMean(keras.metrics.Metric):
    """The weighted mean of a measure, of which replicas have a part each.

    Its reset is how an evaluation begins: Keras resets what it logs, not the layer
    that owns it.

    Args:
      name: Its name in the logs.
      compute: One of `rank_measures.MEASURES`.
      k: Its k.
      band: Name of the popularity band whose positives count; None: all.
      on_reset: Function to call at each reset.
    """

    def __init__(
        self,
        name: str,
        compute: Measure,
        k: int,
        band: str | None,
        on_reset: Callable[[], None],
    ) -> None:
        super().__init__(name=name)
        self.compute, self.k, self.band = compute, k, band
        self._on_reset = on_reset
        # Float32 would lose what a row adds to a long evaluation.
        self._total, self._weight = (
            self.add_weight(name=part, shape=(), initializer="zeros", dtype="float64")
            for part in ("total", "weight")
        )

    def update_state(self, total: tf.Tensor, weight: tf.Tensor) -> None:
        """Adds a sum of values times weights, and the sum of these, both float64."""
        self._total.assign_add(total)
        self._weight.assign_add(weight)

    def result(self) -> tf.Tensor:
        total, weight = (
            tf.convert_to_tensor(part) for part in (self._total, self._weight)
        )
        if IS_KERAS_3:
            # Keras 2 adds up replicas itself.
            total, weight = distribute.total(total), distribute.total(weight)
        return tf.cast(tf.math.divide_no_nan(total, weight), tf.float32)

    def reset_state(self) -> None:
        super().reset_state()
        self._on_reset()
