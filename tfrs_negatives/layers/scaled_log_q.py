"""A share of a log-Q correction."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives import _late_changes as late_changes
from tfrs_negatives._keras import add_state, converted, keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives.types import Config, KerasLayer, KerasSchedule, TensorLike

_Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class ScaledLogQ(keras.layers.Layer):
    """Corrects by a share of log q: 0 is no correction, 1 the whole of it.

    With the whole correction a model learns log p(y|x) and ranks by probability;
    with a share w of it, log p(y|x) - (1 - w) log q(y), so that popular items lose
    some of their lead (logit adjustment, Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021, equation 10). With w = 0 it ranks by lift.

    The rarest items gain the most by that, and q of a rare item is little more than
    noise. With a floor f the model learns instead

        log p(y|x) - (1 - w) log(q(y) + f),

    where f = a / N, for a catalogue of N items, is the share of a uniform draw; a of
    0.2 serves well. The correction is then log Q - (1 - w) log(1 + q / f), which is at
    most 0 and differs by a constant that cancels in a softmax. Q is what the source
    gives, and q how likely the batch has the item: of a `MixedLogQ` its first source,
    of other layers the same.

    Args:
      source: A layer that gives log q, such as `StreamingFrequency` or `MixedLogQ`.
      strength: w in [0, 1]; or a Keras learning-rate schedule that gives it from the
        number of training calls so far.
      name: Name of the layer.
      floor: f, a probability above 0. None: the correction is w log Q.

    Call arguments:
      ids, num_positives, num_columns, training: As `source` takes them.

    Returns:
      [n] float32, what to subtract from scores.

    Raises:
      ValueError: A strength outside [0, 1], a floor outside (0, 1].
      tf.errors.InvalidArgumentError: A schedule that leaves [0, 1].

    Reference:
      * Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.

    Example:
      >>> counts = tn.layers.StaticFrequency([6, 3, 1])
      >>> layer = tn.layers.ScaledLogQ(counts, strength=0.5, floor=0.2 / 3)
      >>> layer(tf.constant([0, 2])).numpy().round(2)
      array([-1.66, -2.76], dtype=float32)
    """

    def __init__(
        self,
        source: KerasLayer,
        strength: float | KerasSchedule,
        name: str | None = None,
        *,
        floor: float | None = None,
    ) -> None:
        scheduled = isinstance(strength, _Schedule)
        if not scheduled and not 0 <= strength <= 1:
            raise ValueError(
                f"`strength` must be in [0, 1], received {strength}. 0 is no "
                "correction, 1 the whole correction."
            )
        if floor is not None:
            _checks.check_number("floor", floor)
            if not 0 < floor <= 1:
                raise ValueError(
                    f"`floor` must be a probability in (0, 1], received {floor}. Pass "
                    "0.2 / N for a catalogue of N items, or None for no floor."
                )
        super().__init__(name=name, autocast=False, dtype="float32")
        self.source = source
        self.strength = strength
        self.floor = None if floor is None else float(floor)
        self._step = add_state(self, "step", [], "int64") if scheduled else None
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    def __repr__(self) -> str:
        return described(
            self, source=self.source, strength=self.strength, floor=self.floor
        )

    def get_config(self) -> Config:
        serialize = keras.utils.serialize_keras_object
        scheduled = self._step is not None
        return {
            "name": self.name,
            "source": serialize(self.source),
            "strength": serialize(self.strength) if scheduled else self.strength,
            "floor": self.floor,
        }

    @classmethod
    def from_config(cls, config: Config) -> ScaledLogQ:
        revive = keras.utils.deserialize_keras_object
        strength = config["strength"]
        if isinstance(strength, dict):
            strength = revive(strength)
        return cls(
            revive(config["source"]), strength, config["name"], floor=config["floor"]
        )

    @unconverted
    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        log_q = self.source(
            ids,
            num_positives=num_positives,
            num_columns=num_columns,
            training=training,
        )
        strength = self._strength(training)
        if self.floor is None:
            return strength * log_q
        popularity = self._unmixed(ids)
        if popularity is None:
            popularity = self.source(ids, training=False)
        return _with_floor(log_q, popularity, strength, self.floor)

    def batch_log_q(self, ids: TensorLike) -> tf.Tensor | None:
        """That of a `MixedLogQ`, [n] float32; None of a source that mixes nothing."""
        log_q = self._unmixed(ids)
        if log_q is None:
            return None
        strength = self._strength(training=False)
        if self.floor is None:
            return strength * log_q
        return _with_floor(log_q, log_q, strength, self.floor)

    def _unmixed(self, ids: TensorLike) -> tf.Tensor | None:
        """log q [n] of the batch's own columns; None of a source that mixes nothing."""
        if not hasattr(self.source, "batch_log_q"):
            return None
        return converted(self.source.batch_log_q)(ids)

    def _strength(self, training: bool) -> float | tf.Tensor:
        if self._step is None:
            return self.strength
        schedule: Any = self.strength
        if training:
            late_changes.change_now(self)
        step = tf.identity(self._step)
        if late_changes.awaited(self) is not None:
            step += 1
        strength = converted(schedule.__call__)(step)
        strength = tf.cast(strength, tf.float32)
        strength = _checks.guard(
            strength,
            tf.debugging.Assert(
                (strength >= 0) & (strength <= 1),
                ["The schedule of `strength` must stay in [0, 1], gave:", strength],
            ),
        )
        if training:
            distribute.check_in_scope(self, self._step)
            late_changes.change_late(self, strength, self._count_step)
        return strength

    def _count_step(self, strength: tf.Tensor) -> None:
        assert self._step is not None, "a schedule has steps"
        # The first step is step 0: what was read for it.
        with tf.control_dependencies([strength]):
            self._step.assign_add(1)


def _with_floor(
    log_q: tf.Tensor,
    popularity: tf.Tensor,
    strength: float | tf.Tensor,
    floor: float,
) -> tf.Tensor:
    lift = tf.math.softplus(popularity - math.log(floor))
    return log_q - (1 - strength) * lift
