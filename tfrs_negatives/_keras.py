"""The one module that knows how Keras 2 and Keras 3 differ.

The active Keras is `tf.keras`: Keras 2 (`tf_keras`) when
`TF_USE_LEGACY_KERAS=1` was set before TensorFlow was imported, Keras 3
otherwise. TensorFlow Recommenders needs Keras 2 and is imported only there.
"""

import re
import textwrap

import tensorflow as tf

keras = tf.keras
IS_KERAS_3 = hasattr(keras, "ops")  # Keras 2's `tf.keras` carries no version.

if IS_KERAS_3:

    class Task:
        """Marks a layer as a task; `tfrs.tasks.Task` under Keras 2."""

else:
    from tensorflow_recommenders.tasks import Task  # noqa: F401


def add_state(layer, name, shape, dtype, initializer="zeros"):
    """Adds a non-trainable variable that all replicas share.

    Every replica is expected to apply the same update, so the first replica's
    value stands for all. The dtype is kept under mixed precision.

    Args:
      layer: The Keras layer that owns the state.
      name: Name of the variable.
      shape: Its shape.
      dtype: Its dtype, a string.
      initializer: A Keras initializer.

    Returns:
      The underlying `tf.Variable`.
    """
    if IS_KERAS_3:
        weight = layer.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer=initializer,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        return weight.value
    return layer.add_weight(
        name=name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        trainable=False,
        experimental_autocast=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def without_arguments(error):
    """The `ValueError` of a layer's call, its reason alone.

    Keras puts all arguments behind it, a screen of them for a call that takes many, and
    a graph puts lines of the layer's own code before it.
    """
    reason = re.split(r"\s*(?:Call a|A)rguments received by ", str(error))[0]
    if "in user code:" in reason:
        reason = textwrap.dedent(re.split(r"\n *ValueError: ", reason)[-1])
    return ValueError(reason.strip()).with_traceback(error.__traceback__)


def note_inputs(model, inputs):
    """Tells a model what it is called with, where another method than `call` is used.

    Keras 2 cannot save a model as a SavedModel before it knows that.
    """
    if not IS_KERAS_3 and model._saved_model_inputs_spec is None:
        model._set_save_spec(inputs)


class Untracked:
    """Holds what Keras must neither track, save, nor wrap.

    Attributes:
      value: What is held.
    """

    def __init__(self, value):
        self.value = value
