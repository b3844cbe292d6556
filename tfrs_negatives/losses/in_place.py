"""Writing few places of a large matrix without copying the rest."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla, placed_on_gpu


def overwrite(
    matrix: tf.Tensor, places: tf.Tensor, values: tf.Tensor, in_place: bool
) -> tf.Tensor:
    """Returns `matrix` with other values at some places.

    `tf.tensor_scatter_nd_update` copies the matrix first, which costs as much as
    a softmax. In place, only the given places are touched: for a matrix that was
    just computed and has no other reader. That is neither differentiable nor
    known to XLA, which avoids the copy by itself.

    Args:
      matrix: [n, m], fewer than 2^31 numbers.
      places: [p] int32, row times m plus column. Repeated places must carry equal
        values.
      values: [p], of the matrix's dtype.
      in_place: Whether the matrix may be changed. It must not be computed from
        constants alone then: see `never_constant`.

    Returns:
      [n, m].
    """
    flat = tf.reshape(matrix, [-1])
    if in_place and not compiled_by_xla():
        flat = tf.raw_ops.InplaceUpdate(x=flat, i=places, v=values)
    else:
        flat = tf.tensor_scatter_nd_update(flat, places[:, tf.newaxis], values)
    if matrix.shape.is_fully_defined():
        return tf.reshape(flat, matrix.shape)
    return tf.ensure_shape(tf.reshape(flat, tf.shape(matrix)), matrix.shape)


def add(matrix: tf.Tensor, places: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns `matrix` with values added in some places, in place where that is known.

    Args:
      matrix, values: As in `overwrite`.
      places: As in `overwrite`, but what is repeated is added again.

    Returns:
      [n, m].
    """
    flat = tf.reshape(matrix, [-1])
    # In place a GPU adds what is repeated but once.
    if compiled_by_xla() or placed_on_gpu():
        flat = tf.tensor_scatter_nd_add(flat, places[:, tf.newaxis], values)
    else:
        flat = tf.raw_ops.InplaceAdd(x=flat, i=places, v=values)
    return tf.ensure_shape(tf.reshape(flat, tf.shape(matrix)), matrix.shape)


def never_constant(scalar: tf.Tensor) -> tf.Tensor:
    """The scalar, hidden from TensorFlow's folding of constants.

    Where all that is read and written is constant, TensorFlow folds writing in place
    too, and then keeps no order between it and a reading that must come before.
    """
    if compiled_by_xla():
        return scalar
    # An operation with state is never folded.
    zero = tf.raw_ops.Empty(shape=[], dtype=scalar.dtype, init=True)
    return scalar + zero


def get_each(matrix: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """`matrix[i, columns[i]]` for each row i."""
    if compiled_by_xla():
        chosen = _are_chosen(matrix, columns)
        return tf.reduce_sum(tf.where(chosen, matrix, tf.zeros_like(matrix)), axis=1)
    return tf.gather(matrix, columns, batch_dims=1)


def set_each(
    matrix: tf.Tensor, columns: tf.Tensor, values: tf.Tensor, in_place: bool
) -> tf.Tensor:
    """`matrix` with `matrix[i, columns[i]] = values[i]`, `values` read before."""
    if compiled_by_xla():
        return tf.where(_are_chosen(matrix, columns), values[:, tf.newaxis], matrix)
    sizes = matrix.shape
    if not sizes.is_fully_defined():
        sizes = tf.unstack(tf.shape(matrix))
    places = row_starts(*sizes) + columns
    with tf.control_dependencies([values]):
        return overwrite(matrix, places, values, in_place)


def _are_chosen(matrix: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """[n, m] bool, one place a row.

    XLA makes a comparison part of the loop that reads the matrix. Gathering from
    places, or scattering to them, would be a pass of its own over a matrix written for
    it.
    """
    return tf.equal(columns[:, tf.newaxis], tf.range(tf.shape(matrix)[1]))


def row_starts(num_rows: int | tf.Tensor, num_columns: int | tf.Tensor) -> tf.Tensor:
    """[n] int32, the place of each row's first column."""
    return tf.range(num_rows) * num_columns
