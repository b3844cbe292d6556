"""The mean loss over all rows of an evaluation, however they are cut into batches."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives.tasks.noted_losses import NotedLosses

# How many tasks one `compute_loss` may call, and two more.
_TERMS = 34


class RowMeans:
    """Averages the losses of batches.

    What a task added to a batch's loss counts by the task's rows, or by their weights;
    what else the loss holds is taken for a mean over the batch's rows. Each term is
    averaged by itself, and the averages are added up.
    """

    def __init__(self) -> None:
        # Float32 would lose what a row adds to a long evaluation.
        self._totals, self._weights = (
            tf.Variable(
                tf.zeros([_TERMS], tf.float64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            for _ in range(2)
        )

    def reset(self) -> None:
        """Begins another evaluation."""
        for sums in (self._totals, self._weights):
            sums.assign(tf.zeros_like(sums))

    def update(
        self,
        loss: tf.Tensor,
        regularization_loss: tf.Tensor,
        noted: NotedLosses,
        num_rows: int | tf.Tensor,
        rest_is_sum: bool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Adds a batch.

        Args:
          loss: What `compute_loss` returned on this replica, a scalar.
          regularization_loss: Scalar.
          noted: `NotedLosses` of the call.
          num_rows: Scalar, the rows of this replica.
          rest_is_sum: Whether what no noted task accounts for is a sum over rows.

        Returns:
          `(loss, regularization_loss)`, float32 scalars: the means over all batches
          and replicas since `reset`.
        """
        if len(noted.entries) > _TERMS - 2:
            raise ValueError(
                f"`compute_loss` calls {len(noted.entries)} tasks: expected at most "
                f"{_TERMS - 2}. Call one task on more rows instead."
            )
        num_rows = tf.cast(num_rows, tf.float64)
        rest = tf.cast(loss, tf.float64)
        terms = []
        for entry, factor in zip(noted.entries, noted.factors(loss), strict=True):
            part = tf.cast(factor, tf.float64) * tf.cast(entry.loss, tf.float64)
            rest -= part
            terms.append(_term(part, entry.weight, entry.is_sum))
        # The regularization is the same on all replicas, the losses add up.
        regularization = tf.cast(regularization_loss, tf.float64) * num_rows, num_rows
        terms = [_term(rest, num_rows, rest_is_sum), *terms, regularization]
        unused = [0, _TERMS - len(terms)]
        totals, weights = (
            distribute.total(_added(sums, tf.pad(tf.stack(values), [unused])))
            for sums, values in zip(
                (self._totals, self._weights), zip(*terms, strict=True), strict=True
            )
        )
        means = tf.cast(tf.math.divide_no_nan(totals, weights), tf.float32)
        last = len(terms) - 1
        return tf.reduce_sum(means[:last]), means[last]


def _term(
    part: tf.Tensor, weight: tf.Tensor, is_sum: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """A replica's part of a loss as a sum over its rows, and their weight."""
    return part if is_sum else part * distribute.total(weight), weight


def _added(sums: tf.Variable, values: tf.Tensor) -> tf.Tensor:
    """The sums of this replica after values are added."""
    with tf.control_dependencies([sums.assign_add(values)]):
        return tf.convert_to_tensor(sums)
