"""Calibration of rankers that were trained on a part of the negatives."""

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._keras import keras


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class PriorCorrection(keras.layers.Layer):
    """Puts the prior back after negative subsampling.

    Where only a share w of the negatives was kept for training, a model learns odds
    that are 1 / w too high. The true ones are (He et al., "Practical lessons from
    predicting clicks on ads at Facebook", ADKDD 2014, section 6.3)

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
        constructor has none.
      training: Whether to leave the inputs as they are.

    Returns:
      Of the shape and dtype of the inputs.

    Raises:
      ValueError: A keep rate outside (0, 1], none, or two of them.
      tf.errors.InvalidArgumentError: The same for tensors, and probabilities
        outside [0, 1].

    Example:
    >>> correct = PriorCorrection(0.1, from_logits=False)
    >>> correct(tf.constant([0.5])).numpy().round(3)
    array([0.091], dtype=float32)
    """

    def __init__(self, keep_rate=None, from_logits=True, name=None):
        if keep_rate is not None and not 0 < keep_rate <= 1:
            raise ValueError(
                f"`keep_rate` must be in (0, 1], received {keep_rate}. It is the share "
                "of negatives that was kept; 1 is all of them."
            )
        super().__init__(name=name, autocast=False, dtype="float32")
        self.keep_rate = keep_rate
        self.from_logits = from_logits

    def get_config(self):
        return {
            "name": self.name,
            "keep_rate": self.keep_rate,
            "from_logits": self.from_logits,
        }

    def call(self, inputs, keep_rate=None, training=False):
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
        keep_rate = tf.cast(keep_rate, values.dtype)
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
