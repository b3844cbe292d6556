"""How far estimates of log q are from the truth."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers.id_counts import from_config
from tfrs_negatives.layers.static_frequency import StaticFrequency
from tfrs_negatives.types import Config, CountsLike, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class LogQError(keras.metrics.Metric):
    """Mean absolute error of log q in nats, up to a constant.

    Each call takes the columns of a batch: e_k = estimated - true log q of column k,
    and the error is the mean of |e_k - mean e|. The constant is taken out because it
    cancels in the softmax. Columns drawn with probability q weigh each item by its
    q. The result is the mean over all columns seen; 0.1 nats are 10% of q.

    Args:
      counts: True counts, as `layers.StaticFrequency` takes them.
      name: Name of the metric.

    Raises:
      ValueError: As `layers.StaticFrequency`.

    Example:
      >>> error = tn.metrics.LogQError({"tea": 3, "milk": 1})
      >>> uniform = tf.math.log([0.5, 0.5])  # An estimate that knows no popularity.
      >>> _ = error.update_state(tf.constant(["tea", "milk"]), uniform)
      >>> round(float(error.result()), 3)
      0.549
    """

    def __init__(self, counts: CountsLike, *, name: str = "log_q_error") -> None:
        super().__init__(name=name)
        self._truth = StaticFrequency(counts)
        self._total = self.add_weight(name="total", shape=(), initializer="zeros")
        self._columns = self.add_weight(name="columns", shape=(), initializer="zeros")

    def get_config(self) -> Config:
        truth = self._truth.get_config()
        return {"name": self.name, "counts": truth["counts"], "ids": truth["ids"]}

    @classmethod
    def from_config(cls, config: Config) -> LogQError:
        return cls(**from_config(config))

    def update_state(
        self,
        ids: TensorLike,
        log_q: TensorLike,
        sample_weight: TensorLike | None = None,
    ) -> None:
        """Adds a batch.

        Args:
          ids: [n] ids, of the kind that was counted.
          log_q: [n], estimated.
          sample_weight: [n], weights of the columns; None means 1.
        """
        error = tf.cast(log_q, tf.float32) - self._truth(ids)
        if sample_weight is None:
            sample_weight = tf.ones_like(error)
        weights = tf.cast(sample_weight, tf.float32)
        total = tf.reduce_sum(weights)
        shift = tf.math.divide_no_nan(tf.reduce_sum(weights * error), total)
        self._total.assign_add(tf.reduce_sum(weights * tf.abs(error - shift)))
        self._columns.assign_add(total)

    def result(self) -> tf.Tensor:
        return tf.math.divide_no_nan(
            tf.convert_to_tensor(self._total), tf.convert_to_tensor(self._columns)
        )

    def reset_state(self) -> None:
        # Not all variables, as Keras does: those of the true counts stay.
        self._total.assign(0.0)
        self._columns.assign(0.0)
