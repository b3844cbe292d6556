"""A share of a log-Q correction."""

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._keras import add_state, keras

_Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class ScaledLogQ(keras.layers.Layer):
    """Corrects by strength times log q: 0 is no correction, 1 the whole of it.

    With the whole correction a model learns log p(y|x) and ranks by probability;
    with a share w of it, log p(y|x) - (1 - w) log q(y), so that popular items lose
    some of their lead (logit adjustment, Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021, equation 10).

    Args:
      source: A layer that gives log q, such as `StreamingFrequency` or `MixedLogQ`.
      strength: w in [0, 1]; or a Keras learning-rate schedule that gives it from the
        number of training calls so far.
      name: Name of the layer.

    Call arguments:
      ids, num_positives, num_columns, training: As `source` takes them.

    Returns:
      [n] float32, w log q.

    Raises:
      ValueError: A strength outside [0, 1].
      tf.errors.InvalidArgumentError: A schedule that leaves [0, 1].
    """

    def __init__(self, source, strength, name=None):
        scheduled = isinstance(strength, _Schedule)
        if not scheduled and not 0 <= strength <= 1:
            raise ValueError(
                f"`strength` must be in [0, 1], received {strength}. 0 is no "
                "correction, 1 the whole correction."
            )
        super().__init__(name=name, autocast=False, dtype="float32")
        self.source = source
        self.strength = strength
        self._step = add_state(self, "step", [], "int64") if scheduled else None
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    def get_config(self):
        serialize = keras.utils.serialize_keras_object
        scheduled = self._step is not None
        return {
            "name": self.name,
            "source": serialize(self.source),
            "strength": serialize(self.strength) if scheduled else self.strength,
        }

    @classmethod
    def from_config(cls, config):
        revive = keras.utils.deserialize_keras_object
        strength = config["strength"]
        if isinstance(strength, dict):
            strength = revive(strength)
        return cls(revive(config["source"]), strength, config["name"])

    def call(self, ids, num_positives=None, num_columns=None, training=False):
        log_q = self.source(
            ids,
            num_positives=num_positives,
            num_columns=num_columns,
            training=training,
        )
        return self._strength(training) * log_q

    def batch_log_q(self, ids):
        """That of a `MixedLogQ`, [n] float32; None of a source that mixes nothing."""
        if not hasattr(self.source, "batch_log_q"):
            return None
        log_q = self.source.batch_log_q(ids)
        return None if log_q is None else self._strength(training=False) * log_q

    def _strength(self, training):
        if self._step is None:
            return self.strength
        strength = tf.cast(self.strength(tf.identity(self._step)), tf.float32)
        strength = _checks.guard(
            strength,
            tf.debugging.Assert(
                (strength >= 0) & (strength <= 1),
                ["The schedule of `strength` must stay in [0, 1], gave:", strength],
            ),
        )
        if training:
            distribute.check_in_scope(self, self._step)
            # The first step is step 0: what was read above.
            with tf.control_dependencies([strength]):
                self._step.assign_add(1)
        return strength
