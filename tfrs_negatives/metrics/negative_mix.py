"""Where negatives come from."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.metrics.negative_metric import NegativeMetric, named
from tfrs_negatives.metrics.negatives import SOURCES, Negatives


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class NegativeMix(NegativeMetric):
    """The share of the negatives that are of one source.

    It counts the negatives that the loss sees, after masks and mining. Compare it with
    `NegativeHardness(source)` to see whether a source is worth its place: hard
    negatives carry a larger share of the gradient than of the number.

    Args:
      source: One of `SOURCES`.
      name: Name of the metric.

    Raises:
      ValueError: Another source.

    Example:
      >>> metric = tn.metrics.NegativeMix("in_batch")
      >>> task = tn.tasks.Retrieval(negative_metrics=[metric])
      >>> embeddings = tf.ones([4, 2])
      >>> _ = task(embeddings, embeddings, training=True)
      >>> round(float(metric.result()), 3)
      1.0
    """

    def __init__(self, source: str, name: str | None = None) -> None:
        _checks.check_choice("source", source, SOURCES)
        super().__init__(name or named("negative_mix", source), source)

    def parts(self, negatives: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
        return (
            negatives.total(negatives.kept, self.source),
            negatives.total(negatives.kept),
        )
