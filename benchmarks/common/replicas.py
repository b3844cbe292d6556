"""Replicas on one processor."""

import tensorflow as tf


def make_logical_processors(number):
    """Has TensorFlow see the processor as so many. Before it does anything else."""
    processor = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * number
    tf.config.set_logical_device_configuration(processor, logical)


def on_logical_processors(number):
    """A strategy with a replica on each of the first logical processors."""
    if number == 1:
        return tf.distribute.OneDeviceStrategy("CPU:0")
    return tf.distribute.MirroredStrategy(
        [f"CPU:{place}" for place in range(number)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
