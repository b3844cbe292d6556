"""`tfrs.Model`, for Keras 2."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_recommenders.models import Model

from tfrs_negatives import distribute
from tfrs_negatives.types import KerasMetric


class Keras2Model(Model):
    """Trains on the scalar that `compute_loss(features, training)` returns."""

    def _logged_metrics(self) -> list[KerasMetric]:
        return self.metrics

    def _logs(self, losses: dict[str, tf.Tensor]) -> dict[str, Any]:
        """The metrics, and losses that are everyone's."""
        logs = {metric.name: metric.result() for metric in self._logged_metrics()}
        # Keras adds up what replicas log, but for metrics, which they share.
        replicas = distribute.num_replicas()
        return {**logs, **{name: loss / replicas for name, loss in losses.items()}}
