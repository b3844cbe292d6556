"""Whether XLA compiles what is being traced, and for which device."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import control_flow_util


def compiled_by_xla() -> bool:
    """Whether the code being traced is inside `jit_compile=True` or runs on a TPU."""
    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and bool(
        control_flow_util.GraphOrParentsInXlaContext(graph)
    )


def placed_on_gpu() -> bool:
    """Whether TensorFlow places what is run or traced here on a GPU.

    The innermost device scope that names a kind of device says so, be it `tf.device` or
    a replica's of a strategy; without one TensorFlow takes a GPU where it has any. A
    function is traced once: it keeps what held then.
    """
    kind = _device_kind()
    if kind is not None:
        return kind == "GPU"
    return bool(tf.config.list_logical_devices("GPU"))


def _device_kind() -> str | None:
    """The kind of device that the scopes around this code ask for, or None."""
    graph = tf.compat.v1.get_default_graph()
    while not tf.executing_eagerly() and graph is not None:
        with graph.as_default():
            # An operation is told by its graph's scopes; nothing needs this one.
            kind = tf.DeviceSpec.from_string(tf.no_op().device).device_type
        if kind is not None:
            return kind
        # A function's graph does not know the scopes of the code that calls it.
        graph = getattr(graph, "outer_graph", None)
        if not isinstance(graph, FuncGraph):
            break
    name = context.context().device_name or ""
    return tf.DeviceSpec.from_string(name).device_type
