"""A weighted mean whose reset begins an evaluation."""

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import IS_KERAS_3, keras


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

    def __init__(self, name, compute, k, band, on_reset):
        super().__init__(name=name)
        self.compute, self.k, self.band = compute, k, band
        self._on_reset = on_reset
        # Float32 would lose what a row adds to a long evaluation.
        self._total, self._weight = (
            self.add_weight(name=part, shape=(), initializer="zeros", dtype="float64")
            for part in ("total", "weight")
        )

    def update_state(self, total, weight):
        """Adds a sum of values times weights, and the sum of these, both float64."""
        self._total.assign_add(total)
        self._weight.assign_add(weight)

    def result(self):
        total, weight = (
            tf.convert_to_tensor(part) for part in (self._total, self._weight)
        )
        if IS_KERAS_3:
            # Keras 2 adds up replicas itself.
            total, weight = distribute.total(total), distribute.total(weight)
        return tf.cast(tf.math.divide_no_nan(total, weight), tf.float32)

    def reset_state(self):
        super().reset_state()
        self._on_reset()
