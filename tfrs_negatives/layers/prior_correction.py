"""Calibration of rankers that were trained on a part of the negatives."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras
from tfrs_negatives._repr import described
from tfrs_negatives.types import Config, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class PriorCorrection(keras.layers.Layer):
    """Puts the prior back after negative subsampling.

    If only a share w of the negatives was kept for training, a model learns odds that
    are too high by a factor of 1 / w. The true ones are (He et al., "Practical lessons
    from predicting clicks on ads at Facebook", ADKDD 2014, section 6.3)

        p = p_s / (p_s + (1 - p_s) / w),    that is    logit p = logit p_s + log w.

    As the last layer of a ranker it leaves training as it is and corrects what is
    evaluated and served. Ranks do not change unless w differs from row to row.

    Args:
      keep_rate: w in (0, 1], the share of negatives that was kept. None: it comes
        with each call.
      from_logits: Whether inputs are logits, and so outputs; False: probabilities.
      name: Name of the layer.

    Call arguments:
      inputs: Logits, or probabilities in [0, 1]; float, any shape.
      keep_rate: w of each input, of a shape that broadcasts to theirs, if the
        constructor has none: for logits [B, 1] a number, [1] or [B, 1], not [B].
      training: Whether to leave the inputs as they are.

    Returns:
      Of the shape and dtype of the inputs.

    Raises:
      ValueError: A keep rate outside (0, 1], none, or two of them; one of a shape
        that would change that of the inputs.
      tf.errors.InvalidArgumentError: The same for tensors, and probabilities
        outside [0, 1].

    Example:
      >>> correct = tn.layers.PriorCorrection(0.1, from_logits=False)
      >>> correct(tf.constant([0.5])).numpy().round(3)
      array([0.091], dtype=float32)
    """

    def __init__(
        self,
        keep_rate: float | None = None,
        from_logits: bool = True,
        name: str | None = None,
    ) -> None:
        if keep_rate is not None and not 0 < keep_rate <= 1:
            raise ValueError(
                f"`keep_rate` must be in (0, 1], received {keep_rate}. It is the share "
                "of negatives that was kept; 1 is all of them."
            )
        super().__init__(name=name, autocast=False, dtype="float32")
        self.keep_rate = keep_rate
        self.from_logits = from_logits

    def __repr__(self) -> str:
        return described(self, keep_rate=self.keep_rate, from_logits=self.from_logits)

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "keep_rate": self.keep_rate,
            "from_logits": self.from_logits,
        }

    def call(
        self,
        inputs: TensorLike,
        keep_rate: TensorLike | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        if (keep_rate is None) == (self.keep_rate is None):
            raise ValueError(
                "`keep_rate` comes from the constructor or with the call: expected it "
                f"once, received {self.keep_rate} and {keep_rate}."
            )
        inputs = tf.convert_to_tensor(inputs)
        # Half precision has too few digits for log w.
        values = tf.cast(
            inputs, tf.float64 if inputs.dtype == tf.float64 else "float32"
        )
        if keep_rate is None:
            keep_rate = self.keep_rate
        keep_rate = _checked_shape(tf.cast(keep_rate, values.dtype), values)
        inside = tf.reduce_all((keep_rate > 0) & (keep_rate <= 1))
        message = "`keep_rate` must be in (0, 1], the share of negatives kept:"
        keep_rate = _checks.guard(
            keep_rate, tf.debugging.Assert(inside, [message, keep_rate])
        )
        if not self.from_logits:
            inside = tf.reduce_all((values >= 0) & (values <= 1))
            message = (
                "Probabilities must be in [0, 1]; for logits leave `from_logits=True`. "
                "Received:"
            )
            values = _checks.guard(
                values, tf.debugging.Assert(inside, [message, values])
            )
        if training:
            return tf.identity(inputs)
        if self.from_logits:
            corrected = values + tf.math.log(keep_rate)
        else:
            corrected = values * keep_rate / (values * keep_rate + (1 - values))
        return tf.cast(corrected, inputs.dtype)


def _checked_shape(keep_rate: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Raises unless keep rates broadcast to the shape of the values.

    Logits [B, 1] and rates [B] would silently become [B, B].
    """
    message = (
        "`keep_rate` must broadcast to the shape of the inputs. For inputs [B, 1] and "
        "rates [B] pass `tf.expand_dims(keep_rate, -1)`. Inputs and rates have shapes:"
    )
    shape, own = values.shape, keep_rate.shape
    try:
        both = tf.broadcast_static_shape(shape, own)
    except ValueError as error:
        raise ValueError(f"{message} {shape}, {own}.") from error
    ranks_known = shape.rank is not None and own.rank is not None
    if (ranks_known and own.rank > shape.rank) or not both.is_compatible_with(shape):
        raise ValueError(f"{message} {shape}, {own}.")
    if own.rank == 0 or (shape.is_fully_defined() and own.is_fully_defined()):
        return keep_rate
    shape, own = tf.shape(values), tf.shape(keep_rate)
    # Dimension by dimension, from the last.
    num = tf.minimum(tf.size(own), tf.size(shape))
    shape_ends, own_ends = tf.reverse(shape, [0])[:num], tf.reverse(own, [0])[:num]
    fits = tf.reduce_all((own_ends == 1) | (own_ends == shape_ends))
    fits &= tf.size(own) <= tf.size(shape)
    return _checks.guard(keep_rate, tf.debugging.Assert(fits, [message, shape, own]))
