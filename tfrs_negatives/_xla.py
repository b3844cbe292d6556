"""Whether XLA compiles what is being traced."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def compiled_by_xla() -> bool:
    """Whether the code being traced is inside `jit_compile=True` or runs on a TPU."""
    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and bool(
        control_flow_util.GraphOrParentsInXlaContext(graph)
    )
