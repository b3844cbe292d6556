"""How many negatives are positives."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.metrics.negative_metric import NegativeMetric, named
from tfrs_negatives.metrics.negatives import Negatives
from tfrs_negatives.types import Config


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class FalseNegativeRate(NegativeMetric):
    """The share of negatives that are positives of their row.

    An item is a positive of a row if it is in the row's `measured_positive_ids`, or in
    its `known_positive_ids` where the task is called without those, or if it is the
    item of the row's own positive. Measured positives change nothing in training, so
    that they may hold what training must not see.

    Args:
      source: One of `SOURCES`, to count its negatives alone; None: all.
      after_masks: True: of the negatives that the loss sees. False: of all pairs, as
        if there were no masks and no mining.
      name: Name of the metric.

    Example:
      >>> metric = tn.metrics.FalseNegativeRate()
      >>> task = tn.tasks.Retrieval(negative_metrics=[metric])
      >>> items = tf.constant([1, 1, 2, 3])
      >>> liked = tf.constant([[1], [1], [2], [3]])
      >>> ones = tf.ones([4, 2])
      >>> _ = task(ones, ones, candidate_ids=items, measured_positive_ids=liked)
      >>> round(float(metric.result()), 3)  # 2 of 12 pairs.
      0.167
    """

    NEEDS = ("positives",)

    def __init__(
        self,
        source: str | None = None,
        after_masks: bool = True,
        name: str | None = None,
    ) -> None:
        measure = "false_negative_rate" + ("" if after_masks else "_before_masks")
        super().__init__(name or named(measure, source), source)
        self.after_masks = after_masks

    def get_config(self) -> Config:
        return {**super().get_config(), "after_masks": self.after_masks}

    def parts(self, negatives: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
        pairs = negatives.kept if self.after_masks else negatives.offered
        return (
            negatives.total(pairs & negatives.positives, self.source),
            negatives.total(pairs, self.source),
        )
