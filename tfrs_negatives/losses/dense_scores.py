"""All B x C scores at once, for Keras losses and metrics that need them.

A Keras loss or metric takes a rectangle of scores and knows nothing of masks.
Filling dropped places with a huge negative number is not deletion: label
smoothing then costs 1e34 (tensorflow/recommenders #489). Instead the rows that
keep equally many columns are handed over together, without the dropped ones.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import converted
from tfrs_negatives.losses import reductions
from tfrs_negatives.types import KerasLoss, KerasMetric


class DenseScores:
    """Labels and scores of a batch, from which dropped columns are deleted.

    Args:
      logits: [B, width] scores, -inf where the pair was dropped.
      positives: [B] int32, the column of each row's positive.
      sample_weight: [B] or None.
      masked: Whether any pair can have been dropped. If not, losses and metrics
        get the whole rectangle in one call.
    """

    def __init__(
        self,
        logits: tf.Tensor,
        positives: tf.Tensor,
        sample_weight: tf.Tensor | None,
        masked: bool,
    ) -> None:
        self._logits = logits
        self._labels = tf.one_hot(positives, tf.shape(logits)[1], dtype=logits.dtype)
        self._sample_weight = sample_weight
        self._masked = masked

    def loss(self, keras_loss: KerasLoss) -> tf.Tensor:
        """Returns the Keras loss, with its own reduction."""
        if not self._masked:
            return keras_loss(
                y_true=self._labels,
                y_pred=self._logits,
                sample_weight=self._sample_weight,
            )
        weights, call = self._weights(), converted(keras_loss.call)
        losses = weights * self._each_width(
            lambda labels, logits, _: (call(labels, logits), []), weights
        )
        reduction = reductions.of_keras_loss(keras_loss)
        if reduction == "none":
            return losses
        return reductions.normalise(tf.reduce_sum(losses), weights, reduction)

    def update(self, metric: KerasMetric) -> tf.Operation | tf.Tensor | None:
        """Updates the Keras metric; returns the update operation, if any."""
        if not self._masked:
            return metric.update_state(
                self._labels, self._logits, sample_weight=self._sample_weight
            )

        def one_width(
            labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor
        ) -> tuple[tf.Tensor, list]:
            operation = metric.update_state(labels, logits, sample_weight=weights)
            return tf.zeros_like(weights), [] if operation is None else [operation]

        weights = self._weights()
        return self._each_width(one_width, weights)

    def _weights(self) -> tf.Tensor:
        num_rows = _checks.size(self._logits)
        return reductions.row_weights(self._sample_weight, num_rows, self._logits.dtype)

    def _each_width(
        self, function: Callable[..., tuple[tf.Tensor, list]], weights: tf.Tensor
    ) -> tf.Tensor:
        """Calls `function` on the rows of each width, dropped columns deleted.

        Args:
          function: Takes labels [r, n], logits [r, n] and weights [r] of the r
            rows that keep n columns. Returns [r] values and the operations that
            must run with it.
          weights: [B].

        Returns:
          [B], the values; the gradient of a dropped pair is exactly 0.
        """
        kept = tf.not_equal(self._logits, float("-inf"))
        widths = tf.reduce_sum(tf.cast(kept, tf.int32), axis=1)
        distinct_widths = tf.unique(widths).y

        def one_width(step: tf.Tensor, values: tf.Tensor) -> tuple:
            width = distinct_widths[step]
            places = tf.where(tf.equal(widths, width))
            rows = tf.squeeze(places, axis=1)
            # A stable descending sort brings the kept columns forward, in order.
            order = tf.argsort(
                tf.cast(tf.gather(kept, rows), tf.int32),
                direction="DESCENDING",
                stable=True,
            )[:, :width]
            here, operations = function(
                tf.gather(tf.gather(self._labels, rows), order, batch_dims=1),
                tf.gather(tf.gather(self._logits, rows), order, batch_dims=1),
                tf.gather(weights, rows),
            )
            with tf.control_dependencies(operations):
                return step + 1, tf.tensor_scatter_nd_update(values, places, here)

        _, values = tf.while_loop(
            lambda step, _: step < tf.size(distinct_widths),
            one_width,
            (0, tf.zeros_like(weights)),
            parallel_iterations=1,
        )
        return values
