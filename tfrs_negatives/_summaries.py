"""Summaries for TensorBoard, written where Keras's callback is listening."""

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla


def histogram(name, values):
    """Writes a histogram, if a default writer and a step have been set.

    `keras.callbacks.TensorBoard(update_freq=n)` sets them every n steps. XLA cannot
    write summaries and leaves them out.
    """
    if tf.summary.experimental.get_step() is not None and not compiled_by_xla():
        tf.summary.histogram(name, values)
