"""Writing few places of a large matrix without copying the rest."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def compiled_by_xla():
    """Whether the code being traced is inside `jit_compile=True`."""
    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and bool(
        control_flow_util.GraphOrParentsInXlaContext(graph)
    )


def overwrite(matrix, rows, columns, values, in_place):
    """Returns `matrix` with `matrix[rows[i], columns[i]] = values[i]`.

    `tf.tensor_scatter_nd_update` copies the matrix first, which costs as much as
    a softmax. In place, only the given places are touched: for a matrix that was
    just computed and has no other reader. That is neither differentiable nor
    known to XLA, which avoids the copy by itself.

    Args:
      matrix: [n, m].
      rows: [p] int32.
      columns: [p] int32. Repeated places must carry equal values.
      values: [p], of the matrix's dtype.
      in_place: Whether the matrix may be changed.

    Returns:
      [n, m].
    """
    if not in_place or compiled_by_xla():
        places = tf.stack([rows, columns], axis=1)
        return tf.tensor_scatter_nd_update(matrix, places, values)
    flat = tf.raw_ops.InplaceUpdate(
        x=tf.reshape(matrix, [-1]),
        i=rows * tf.shape(matrix)[1] + columns,
        v=values,
    )
    return tf.ensure_shape(tf.reshape(flat, tf.shape(matrix)), matrix.shape)


def get_each(matrix, columns):
    """`matrix[i, columns[i]]` for each row i."""
    return tf.gather(matrix, columns, batch_dims=1)


def set_each(matrix, columns, values, in_place):
    """`matrix` with `matrix[i, columns[i]] = values[i]`, `values` read before."""
    with tf.control_dependencies([values]):
        rows = tf.range(tf.size(columns))
        return overwrite(matrix, rows, columns, values, in_place)
