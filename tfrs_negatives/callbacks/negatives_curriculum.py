"""Schedules for what decides how hard negatives are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras


class NegativesCurriculum(keras.callbacks.Callback):
    """Assigns scheduled values to variables before every training batch.

    It makes negatives easy at first and hard later. It may schedule the shares of a
    `samplers.Mixture`, the ranks that a `samplers.Mined` draws from, the
    `negative_weight` or the `num_hard_negatives` of a task, or a weight of your own.
    The values are variables, so nothing is traced again. They follow from the
    optimizer's `iterations`, so training from a checkpoint goes on where it was.

    Input pipelines read the variables when they draw, so prefetched batches have
    earlier values.

    During training, a value that is not finite, or of another shape than the variable,
    raises a `ValueError` before any variable is changed.

    Args:
      schedules: Dict from a name to (variable, schedule). A schedule is a Keras
        `LearningRateSchedule` (`PiecewiseConstantDecay`; `PolynomialDecay`, which is
        linear with power 1) or a function from the step, an int, to a value of the
        variable's shape. For an integer variable it is rounded. Epoch logs get the
        value of a scalar under its name, those of a vector under `name_0`, `name_1`.

    Raises:
      ValueError: Anything else than variables and schedules.

    Example:
      >>> margin = tf.Variable(1e9, trainable=False)
      >>> steps = tf.keras.optimizers.schedules.PiecewiseConstantDecay([1], [1e9, 0.1])
      >>> curriculum = tn.callbacks.NegativesCurriculum({"margin": (margin, steps)})
      >>> model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
      >>> model.compile("sgd", loss="mse")
      >>> x, y = tf.ones([8, 1]), tf.ones([8, 1])
      >>> _ = model.fit(x, y, batch_size=2, verbose=0, callbacks=[curriculum])
      >>> round(float(margin), 3)
      0.1
    """

    def __init__(
        self, schedules: dict[str, tuple[tf.Variable, Callable[[int], Any]]]
    ) -> None:
        super().__init__()
        if not isinstance(schedules, dict) or not schedules:
            raise ValueError(
                "`schedules` must be a dict from names to (variable, schedule), "
                f"received {schedules!r}."
            )
        self._schedules = {}
        for name, entry in schedules.items():
            if not isinstance(entry, (tuple, list)) or len(entry) != 2:
                raise ValueError(
                    f"`schedules[{name!r}]` must be a pair (variable, schedule), "
                    f"received {entry!r}."
                )
            variable, schedule = entry
            if not isinstance(variable, tf.Variable):
                # A variable of Keras 3 holds one of TensorFlow.
                variable = getattr(variable, "value", None)
            if not isinstance(variable, tf.Variable):
                raise ValueError(
                    f"`schedules[{name!r}]` must begin with a variable, received "
                    f"{type(entry[0]).__name__}. A number cannot be changed while a "
                    "traced step uses it: make it a tf.Variable."
                )
            if not callable(schedule):
                raise ValueError(
                    f"`schedules[{name!r}]` must end with a schedule, a function from "
                    f"step to value, received {type(schedule).__name__}."
                )
            self._schedules[name] = variable, schedule

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._assign()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._assign()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None:
            return
        for name, (variable, _) in self._schedules.items():
            value = variable.numpy()
            if not value.ndim:
                logs[name] = value.item()
            for place, item in enumerate(value.ravel() if value.ndim else ()):
                logs[f"{name}_{place}"] = item.item()

    def _assign(self) -> None:
        step = int(tf.convert_to_tensor(self.model.optimizer.iterations))
        values = [
            (variable, _checked(name, variable, schedule(step), step))
            for name, (variable, schedule) in self._schedules.items()
        ]
        for variable, value in values:
            variable.assign(value)


def _checked(name: str, variable: tf.Variable, value: Any, step: int) -> tf.Tensor:
    """The value in the variable's dtype."""
    value = np.asarray(value, np.float64)
    if value.shape != tuple(variable.shape) or not np.isfinite(value).all():
        raise ValueError(
            f"The schedule of {name!r} must give finite values of shape "
            f"{tuple(variable.shape)}, received {value} at step {step}."
        )
    if variable.dtype.is_integer:
        value = np.rint(value)
    elif variable.dtype == tf.bool:
        value = value != 0
    return tf.cast(value, variable.dtype)
