"""From the losses of rows to the loss of a batch, stated by name."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives.types import TensorLike

REDUCTIONS = ("sum", "sum_over_batch_size", "mean_with_sample_weight", "none")


def row_weights(
    sample_weight: tf.Tensor | None, num_rows: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Returns [B] weights of a dtype, from those of `check_row_weights`."""
    if sample_weight is None:
        return tf.ones(num_rows[tf.newaxis], dtype)
    return tf.cast(sample_weight, dtype)


def check_row_weights(
    sample_weight: TensorLike | None, num_rows: tf.Tensor
) -> tf.Tensor | None:
    """Returns `sample_weight` as [B], from [B] or [B, 1]; raises otherwise."""
    if sample_weight is None:
        return None
    weights = _checks.dense("sample_weight", sample_weight)
    hint = "Pass one weight for each row, [B]."
    _checks.check_rank("sample_weight", weights, (1, 2), hint)
    weights = _checks.check_size("sample_weight", weights, 0, num_rows, hint)
    if weights.shape.rank == 2:
        weights = _checks.check_size("sample_weight", weights, 1, 1, hint)
        weights = tf.squeeze(weights, axis=1)
    return weights


def normalise(total: tf.Tensor, weights: tf.Tensor, reduction: str) -> tf.Tensor:
    """Turns the weighted sum over rows into the named reduction.

    Args:
      total: Scalar, sum of weight times loss over the rows.
      weights: [B].
      reduction: "sum"; "sum_over_batch_size": divided by B, 0 where that is 0;
        "mean_with_sample_weight": divided by the sum of weights, 0 where that
        is 0. The names are those of Keras 3. B and weights are those of all
        replicas, whose losses and gradients are added up.

    Returns:
      Scalar.
    """
    if reduction == "sum_over_batch_size":
        num_rows = tf.cast(distribute.total(tf.size(weights)), total.dtype)
        return tf.math.divide_no_nan(total, num_rows)
    if reduction == "mean_with_sample_weight":
        return tf.math.divide_no_nan(total, distribute.total(tf.reduce_sum(weights)))
    return total


def of_keras_loss(loss: Any) -> str:
    """The reduction of a Keras loss, by its name here.

    Raises:
      ValueError: A reduction that is not one of `REDUCTIONS`.
    """
    name = getattr(loss, "reduction", "none")
    # Keras 2 leaves "auto" to mean the mean; Keras 3 has a second name for it.
    name = {"auto": "sum_over_batch_size", "mean": "sum_over_batch_size"}.get(
        name, "none" if name is None else name
    )
    _checks.check_choice("loss.reduction", name, REDUCTIONS)
    return name
