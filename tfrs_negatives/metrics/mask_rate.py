"""How much of the negatives masks take away."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives.metrics.negative_metric import NegativeMetric, named
from tfrs_negatives.metrics.negatives import Negatives
from tfrs_negatives.types import Config


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class MaskRate(NegativeMetric):
    """The share of pairs that masks drop, or of rows that they leave no negative.

    Masks are the rules on ids and keys, `score_mask` and a task's
    `false_negative_filter`. Places that `negative_mask` rules out are not counted as
    pairs, and the mining of hard negatives is not a mask. A row without negatives costs
    0 and teaches nothing.

    Args:
      source: One of `SOURCES`, to count its negatives alone; None: all.
      of: "pairs", or "rows": those without any negative (of the source).
      name: Name of the metric.

    Raises:
      ValueError: Options out of range.

    Example:
      >>> metric = tn.metrics.MaskRate()
      >>> task = tn.tasks.Retrieval(negative_metrics=[metric])
      >>> embeddings = tf.ones([4, 2])
      >>> _ = task(embeddings, embeddings, query_keys=tf.constant([7, 7, 8, 9]))
      >>> round(float(metric.result()), 3)
      0.167
    """

    def __init__(
        self, source: str | None = None, of: str = "pairs", name: str | None = None
    ) -> None:
        _checks.check_choice("of", of, ("pairs", "rows"))
        measure = "mask_rate" if of == "pairs" else "rows_without_negatives"
        super().__init__(name or named(measure, source), source)
        self.of = of

    def get_config(self) -> Config:
        return {**super().get_config(), "of": self.of}

    def parts(self, negatives: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
        if self.of == "rows":
            without = negatives.rows_without(negatives.allowed, self.source)
            return without, negatives.total_of_rows()
        offered = negatives.total(negatives.offered, self.source)
        return offered - negatives.total(negatives.allowed, self.source), offered
