"""Argument checks whose messages say what was expected, what came, and the remedy.

Facts known while tracing raise `ValueError` at once. Facts that only the values
tell are checked by `tf.debugging` asserts, which raise
`tf.errors.InvalidArgumentError` when the step runs, before the operations that
depend on them.
"""

import tensorflow as tf


def check_rank(name, tensor, ranks, hint):
    """Raises `ValueError` unless the static rank of `tensor` is one of `ranks`."""
    rank = tensor.shape.rank
    if rank is not None and rank not in ranks:
        expected = " or ".join(str(r) for r in ranks)
        raise ValueError(
            f"`{name}` must have rank {expected}, received shape {tensor.shape}. {hint}"
        )


def check_size(name, tensor, axis, size, hint):
    """Raises unless `tensor.shape[axis] == size`.

    Args:
      name: The argument's name, for the message.
      tensor: The tensor to check.
      axis: Which dimension.
      size: The expected size, an int or a scalar int32 tensor.
      hint: One sentence that says how to fix it.

    Returns:
      `tensor`, guarded by a run-time check where the sizes are not static.
    """
    static_size = tf.get_static_value(size)
    static_dim = tensor.shape[axis]
    if static_size is not None and static_dim is not None:
        if static_dim != static_size:
            raise ValueError(
                f"`{name}` must have size {static_size} along axis {axis}, received "
                f"shape {tensor.shape}. {hint}"
            )
        return tensor
    assertion = tf.debugging.assert_equal(
        tf.shape(tensor)[axis],
        size,
        message=f"`{name}` has the wrong size along axis {axis}. {hint}",
    )
    with tf.control_dependencies([assertion] if assertion is not None else []):
        return tf.identity(tensor)
