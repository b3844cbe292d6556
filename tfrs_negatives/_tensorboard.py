"""Summaries for TensorBoard, written where Keras's callback is listening."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla


def histogram(name: str, values: tf.Tensor) -> None:
    """Writes a histogram, if a default writer and a step have been set.

    `keras.callbacks.TensorBoard(update_freq=n)` sets them every n steps. XLA cannot
    write summaries and leaves them out, as does a TensorFlow without TensorBoard:
    there `tf.summary.histogram` is an error even where nothing would be written.
    """
    if tf.summary.experimental.get_step() is None or compiled_by_xla():
        return
    if _has_tensorboard():
        tf.summary.histogram(name, values)


@functools.cache
def _has_tensorboard() -> bool:
    """TensorFlow 2.20 was the last to bring it."""
    return importlib.util.find_spec("tensorboard") is not None


class RecordingSteps:
    """A function of training steps in two forms, with summaries and without.

    What a `tf.function` writes, where to, and at which step is settled when it is
    traced, while Keras's callback decides again at each step. So one form is traced
    where nothing is recorded, the other where something is.

    Args:
      make: Returns a function that runs training steps, not traced yet.
      get_step: Returns the variable that counts them.
    """

    def __init__(
        self,
        make: Callable[[], Callable[[Any], Any]],
        get_step: Callable[[], tf.Variable],
    ) -> None:
        self._make, self._get_step = make, get_step
        self._silent = make()
        self._recording: Callable[[Any], Any] | None = None

    def begin(self) -> None:
        """Begins another `fit`, whose callbacks write to files of their own."""
        self._recording = None

    def __call__(self, iterator: Any) -> Any:
        if not tf.summary.should_record_summaries():
            with tf.summary.record_if(False):
                return self._silent(iterator)
        if self._recording is None:
            self._recording = self._make()
        step = tf.summary.experimental.get_step()
        tf.summary.experimental.set_step(self._get_step())
        try:
            with tf.summary.record_if(True):
                return self._recording(iterator)
        finally:
            tf.summary.experimental.set_step(step)
