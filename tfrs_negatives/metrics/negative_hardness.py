"""Which negatives the gradient comes from."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.metrics.negative_metric import NegativeMetric, named
from tfrs_negatives.metrics.negatives import Negatives


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class NegativeHardness(NegativeMetric):
    """How hard negatives are, by the gradient that they carry.

    The gradient mass of a negative is the absolute derivative of the row's loss in its
    score: for a softmax its probability. Of a Keras `loss` other than the package's it
    is the softmax's of the same scores.

    Without a `source` the result is the mean mass of a row's negatives together: for a
    softmax 1 less the probability of the positive, so 0 where negatives are too
    easy to teach anything, and near 1 where the positive is not found among them (for
    `positive="refined"` and `losses.SampledSigmoid` it scales with their weights; for
    `positive="outside"` it is their weight, always). With a `source` it is the share of
    the mass that its negatives have.

    Args:
      source: One of `SOURCES`, or None; see above.
      name: Name of the metric.

    Example:
      >>> metric = tn.metrics.NegativeHardness()
      >>> task = tn.tasks.Retrieval(negative_metrics=[metric])
      >>> embeddings = tf.ones([4, 2])
      >>> _ = task(embeddings, embeddings, training=True)
      >>> round(float(metric.result()), 3)
      0.75
    """

    def __init__(self, source: str | None = None, name: str | None = None) -> None:
        super().__init__(name or named("negative_hardness", source), source)

    def parts(self, negatives: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
        mass = negatives.total(negatives.mass)
        if self.source is None:
            return mass, negatives.total_of_rows()
        return negatives.total(negatives.mass, self.source), mass
