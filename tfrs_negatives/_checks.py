"""Argument checks whose messages say what was expected, what came, and the remedy.

Facts known while tracing raise `ValueError` at once. Facts that only the values
tell are checked by `tf.debugging` asserts, which raise
`tf.errors.InvalidArgumentError` when the step runs, before the operations that
depend on them.
"""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any

import tensorflow as tf

from tfrs_negatives.types import ScalarLike, TensorLike

#: Dtypes of variables in the place of a number.
FLOATS = (tf.float16, tf.float32, tf.float64)


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}, received {value!r}.")


def size(tensor: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """`tensor.shape[axis]`, a constant where it is known while tracing."""
    static = tensor.shape[axis]
    return tf.shape(tensor)[axis] if static is None else tf.constant(static)


def dense(name: str, value: TensorLike) -> tf.Tensor:
    """`value` as a dense tensor.

    Raises:
      ValueError: It is ragged or sparse, or no tensor can be made of it.
    """
    if isinstance(value, tf.RaggedTensor):
        raise ValueError(
            f"`{name}` must be dense, received a ragged tensor of shape {value.shape}. "
            "Pad it with `.to_tensor()`, or pass its `.flat_values`."
        )
    if isinstance(value, tf.SparseTensor):
        raise ValueError(
            f"`{name}` cannot be sparse, received a SparseTensor of shape "
            f"{value.shape}. Convert it with `tf.RaggedTensor.from_sparse` where lists "
            "of different lengths are taken, else with `tf.sparse.to_dense`."
        )
    try:
        return tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"`{name}` must be a tensor or what one can be made of, received "
            f"{type(value).__name__} ({reason}). Pass numbers or strings, all of one "
            "kind, in rows of one length."
        ) from error


def check_rank(
    name: str, tensor: tf.Tensor | tf.RaggedTensor, ranks: Collection[int], hint: str
) -> None:
    """Raises `ValueError` unless the static rank of `tensor` is one of `ranks`."""
    rank = tensor.shape.rank
    if rank is not None and rank not in ranks:
        expected = " or ".join(str(r) for r in ranks)
        raise ValueError(
            f"`{name}` must have rank {expected}, received shape {tensor.shape}. {hint}"
        )


def check_size(
    name: str, tensor: tf.Tensor, axis: int, size: int | tf.Tensor, hint: str
) -> tf.Tensor:
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


def check_mask(name: str, mask: TensorLike, size: int | tf.Tensor) -> tf.Tensor:
    """Returns `mask` as a bool tensor, checked to be [size]."""
    mask = dense(name, mask)
    if mask.dtype != tf.bool:
        raise ValueError(
            f"`{name}` must be bool, True where there is a key, received "
            f"{mask.dtype.name}. Compare the keys with what stands for none, such as "
            "`keys != 0`."
        )
    hint = "Pass one for each key."
    check_rank(name, mask, (1,), hint)
    return check_size(name, mask, 0, size, hint)


def guard(tensor: TensorLike, *assertions: tf.Operation | None) -> tf.Tensor:
    """Returns `tensor`, computed only after the assertions hold.

    Args:
      tensor: Any tensor.
      *assertions: What `tf.debugging.assert_*` returned: operations in a graph,
        None in eager mode, where the check has been made already.
    """
    with tf.control_dependencies([a for a in assertions if a is not None]):
        return tf.identity(tensor)


def check_number(name: str, value: object) -> None:
    """Raises `ValueError` unless `value` is a number, such as 0.1 and not "0.1"."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise ValueError(f"`{name}` must be a number, received {value!r}.")


def check_scalar(
    name: str, value: ScalarLike | None, dtypes: tuple[tf.DType, ...] = FLOATS
) -> None:
    """Raises `ValueError` unless it is None, a number, or a scalar of such a dtype."""
    if value is None:
        return
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", ())
    if dtype is None or tf.as_dtype(dtype) not in dtypes or len(shape):
        names = " or ".join(dtype.name for dtype in dtypes)
        raise ValueError(
            f"`{name}` must be None, a number or a scalar variable of {names}, "
            f"received {value!r}."
        )


def check_at_least(name: str, value: Any, minimum: int) -> None:
    """Raises `ValueError` unless `value` is an integer of at least `minimum`."""
    try:
        is_whole = not isinstance(value, bool) and int(value) == value
    except (OverflowError, TypeError, ValueError):
        is_whole = False
    if not is_whole or value < minimum:
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}, received {value!r}."
        )


def check_batches(
    dataset: tf.data.Dataset, key_feature: str, names: Collection[str]
) -> None:
    """Raises `ValueError` unless a dataset yields batches that features can join.

    Args:
      dataset: Is to yield dicts with vectors of keys.
      key_feature: Which feature has the keys, [B].
      names: Of the features that are to join, which elements lack.
    """
    spec = dataset.element_spec
    if not isinstance(spec, dict) or key_feature not in spec:
        received = sorted(spec) if isinstance(spec, dict) else type(spec).__name__
        raise ValueError(
            f"`dataset` must yield dicts with the keys' feature {key_feature!r}, "
            f"received {received}. Name the feature that holds the keys, or map the "
            "dataset to dicts with it."
        )
    taken = [name for name in names if name in spec]
    if taken:
        raise ValueError(
            f"`dataset` must not have the features that are added, received "
            f"{' and '.join(map(repr, taken))} in {sorted(spec)}. Choose another "
            "name, or attach once."
        )
    if spec[key_feature].shape.rank != 1:
        raise ValueError(
            f"`attach` needs batches: expected {key_feature!r} of shape [B], "
            f"received {spec[key_feature].shape}. Batch the dataset before."
        )
