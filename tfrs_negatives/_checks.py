"""Argument checks whose messages say what was expected, what came, and the remedy.

Facts known while tracing raise `ValueError` at once. Facts that only the values
tell are checked by `tf.debugging` asserts, which raise
`tf.errors.InvalidArgumentError` when the step runs, before the operations that
depend on them.
"""

import tensorflow as tf


def check_choice(name, value, choices):
    """Raises `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}, received {value!r}.")


def size(tensor, axis=0):
    """`tensor.shape[axis]`, a constant where it is known while tracing."""
    static = tensor.shape[axis]
    return tf.shape(tensor)[axis] if static is None else tf.constant(static)


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
    return guard(
        tensor,
        tf.debugging.assert_equal(
            tf.shape(tensor)[axis],
            size,
            message=f"`{name}` has the wrong size along axis {axis}. {hint}",
        ),
    )


def guard(tensor, *assertions):
    """Returns `tensor`, computed only after the assertions hold.

    Args:
      tensor: Any tensor.
      *assertions: What `tf.debugging.assert_*` returned: operations in a graph,
        None in eager mode, where the check has been made already.
    """
    with tf.control_dependencies([a for a in assertions if a is not None]):
        return tf.identity(tensor)


def check_at_least(name, value, minimum):
    """Raises `ValueError` unless `value` is an integer of at least `minimum`."""
    try:
        is_whole = not isinstance(value, bool) and int(value) == value
    except (OverflowError, TypeError, ValueError):
        is_whole = False
    if not is_whole or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}, received {value!r}."
        )
