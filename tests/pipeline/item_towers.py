"""Small towers as SavedModels."""

import numpy as np
import tensorflow as tf


def save_tower(path, function, *specs, name="serving_default"):
    """Writes a SavedModel of a function of features."""
    module = tf.Module()
    module.function = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), {name: module.function})
    return path


def save_whole_numbers(path, width=4, key="id"):
    """A tower from integers to vectors of small whole numbers: exact dot products."""

    def embed(x):
        mixed = x[:, tf.newaxis] * np.array(
            [31, 57, 73, 91, 101, 113][:width], np.int64
        )
        return tf.cast(tf.math.floormod(mixed // 7, 9) - 4, tf.float32)

    return save_tower(path, embed, tf.TensorSpec([None], tf.int64, key))
