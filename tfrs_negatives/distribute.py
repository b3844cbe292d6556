"""What replicas tell each other: the one module that knows that there are several.

Under a `tf.distribute` strategy every replica runs the same step on its own rows.
Functions here are called in that step, by all replicas alike, and are the identity
outside of a strategy or with one replica. Replicas may have different numbers of rows,
or none.

Gradients: each replica's loss is its rows' share of the loss of the global batch, and
the optimizer adds the replicas' gradients. What `gather` returned is used by all
replicas, so its gradient is added up over them before each takes its part; then the
gradients are those of one replica with all rows, with no factor of their number.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3

__all__ = ["gather", "num_replicas", "place", "rows_before", "total"]

# What collectives of every backend carry.
_CARRIED = (tf.float32, tf.float64, tf.int32, tf.int64)


def num_replicas() -> int:
    """How many replicas run this step, an int; 1 outside of a strategy."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def gather(values: tf.Tensor, compress: bool = False) -> tf.Tensor:
    """All replicas' rows, one replica after the other.

    Each replica receives the others' rows, N - 1 times what it sends; in the backward
    pass all N parts are added up, 2 (N - 1) times as much.

    Args:
      values: [n, ...] of a floating or integer dtype or bool, n its own on each
        replica. Strings cannot be sent: hash them first, as ids are.
      compress: Whether floats travel as bfloat16; their gradients do not.

    Returns:
      [sum of n, ...], differentiable in floats.

    Raises:
      ValueError: Strings, or other dtypes that cannot be sent.
    """
    if num_replicas() == 1:
        return values
    values = tf.convert_to_tensor(values)
    dtype = values.dtype
    if dtype == tf.float16:
        return _gather_half(values, tf.float16)
    if dtype == tf.bfloat16 or (dtype.is_floating and compress):
        return _gather_half(values, tf.bfloat16)
    if dtype == tf.bool:
        return tf.cast(_all_gather(tf.cast(values, tf.int32)), tf.bool)
    if dtype not in _CARRIED:
        raise ValueError(
            f"Replicas send numbers: received {dtype.name}. Look strings up or hash "
            "them before the step."
        )
    return _all_gather(values)


def total(value: tf.Tensor) -> tf.Tensor:
    """The sum of a scalar over replicas, without gradient."""
    if num_replicas() == 1:
        return value
    context = tf.distribute.get_replica_context()
    value = tf.stop_gradient(tf.convert_to_tensor(value))
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def has_several_workers() -> bool:
    """Whether replicas are spread over processes."""
    return tf.distribute.get_strategy().extended._in_multi_worker_mode()


def place() -> int | tf.Tensor:
    """Which replica this is, an int or scalar int32; 0 outside of a strategy."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def check_in_scope(owner: object, variable: tf.Variable) -> None:
    """Raises `ValueError` if replicas would each change the same variable.

    Args:
      owner: The layer, whose class the message names.
      variable: One of its `tf.Variable`s.
    """
    if num_replicas() == 1:
        return
    if not tf.distribute.get_strategy().extended.variable_created_in_scope(variable):
        raise ValueError(
            f"`{type(owner).__name__}` was made outside of the strategy's scope, so "
            "that every replica would write to the same state. Make it, and the task "
            "that holds it, within `with strategy.scope():`."
        )


def check_in_step() -> None:
    """Raises `ValueError` where replicas do not run the same step at one time."""
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            "Workers of `ParameterServerStrategy` train each at its own pace and "
            "cannot have negatives in common: expected `global_negatives=False`. For "
            "negatives of all workers use `MultiWorkerMirroredStrategy`."
        )


def rows_before(num_rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where a replica's rows begin among those of all.

    Args:
      num_rows: Scalar int32, this replica's.

    Returns:
      `(begin, total)`, scalar int32.
    """
    if num_replicas() == 1:
        return tf.zeros([], tf.int32), num_rows
    counts = _all_gather(tf.reshape(num_rows, [1]))
    return tf.reduce_sum(counts[: place()]), tf.reduce_sum(counts)


def _all_gather(values: tf.Tensor) -> tf.Tensor:
    _check_collectives()
    # Without the identity, arguments of a function have no device for the
    # collective of several workers.
    context = tf.distribute.get_replica_context()
    gathered = context.all_gather(tf.identity(values), axis=0)
    gathered = tf.ensure_shape(gathered, [None, *values.shape[1:]])
    return _with_dense_gradient(gathered) if values.dtype.is_floating else gathered


@tf.custom_gradient
def _with_dense_gradient(
    values: tf.Tensor,
) -> tuple[tf.Tensor, Callable[..., tf.Tensor]]:
    """What comes back sparse, from a `tf.gather`, cannot be added up over replicas."""
    return tf.identity(values), tf.convert_to_tensor


def _check_collectives() -> None:
    """Raises where Keras 3's `fit` would die of a placeholder that nothing feeds."""
    extended = tf.distribute.get_strategy().extended
    collectives = getattr(extended, "_collective_ops", None)
    if not IS_KERAS_3 or collectives is None or has_several_workers():
        return
    if extended._cross_device_ops is collectives:
        raise ValueError(
            "Under Keras 3 replicas of one process cannot gather by this strategy's "
            "default collectives (`fit` fails in TensorFlow). Make it "
            "`tf.distribute.MirroredStrategy(cross_device_ops="
            "tf.distribute.ReductionToOneDevice())`, with GPUs "
            "`HierarchicalCopyAllReduce()`, or use Keras 2."
        )


def _gather_half(values: tf.Tensor, half: tf.DType) -> tf.Tensor:
    """Everyone's floats, which travel in half precision.

    Pairs of them travel as int32, which every collective carries. Their gradients are
    added up in float32.
    """

    @tf.custom_gradient
    def gather_half(
        values: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        gathered = _as_float(_all_gather(_as_pairs(values, half)), values, half)
        begin, _ = rows_before(tf.shape(values)[0])

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            upstream = tf.cast(upstream, tf.float32)
            summed = context.all_reduce(tf.distribute.ReduceOp.SUM, upstream)
            own = summed[begin : begin + tf.shape(values)[0]]
            return tf.cast(own, values.dtype)

        return gathered, gradient

    return gather_half(values)


def _as_pairs(values: tf.Tensor, half: tf.DType) -> tf.Tensor:
    """[n, ...] floats as [n, pairs] int32 of two of dtype `half` each."""
    num_rows, width = tf.shape(values)[0], _width(values)
    flat = tf.reshape(tf.cast(values, half), tf.stack([num_rows, width]))
    flat = tf.pad(flat, [[0, 0], [0, width % 2]])
    halves = tf.reshape(flat, tf.stack([num_rows, (width + 1) // 2, 2]))
    return tf.bitcast(halves, tf.int32)


def _as_float(pairs: tf.Tensor, like: tf.Tensor, half: tf.DType) -> tf.Tensor:
    """The reverse, in the shape of rows and the dtype of `like`."""
    num_rows, num_pairs = tf.unstack(tf.shape(pairs))
    flat = tf.reshape(tf.bitcast(pairs, half), tf.stack([num_rows, num_pairs * 2]))
    shape = tf.concat([[num_rows], tf.shape(like)[1:]], axis=0)
    rows = tf.reshape(tf.cast(flat[:, : _width(like)], like.dtype), shape)
    return tf.ensure_shape(rows, [None, *like.shape[1:]])


def _width(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.shape(values)[1:])
