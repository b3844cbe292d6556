"""Embeddings as an index takes them: matrices of finite numbers, checked."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives.types import TensorLike


def checked_candidates(candidates: TensorLike) -> tf.Tensor:
    """Returns `candidates` as a finite `[N, d]` float32 tensor.

    Raises:
      ValueError: if they are anything else.
    """
    if not tf.executing_eagerly():
        raise ValueError("`index` must be called eagerly, outside of any tf.function.")
    candidates = tf.convert_to_tensor(candidates)
    if candidates.shape.rank != 2 or 0 in candidates.shape:
        raise ValueError(
            "`candidates` must be a non-empty matrix, one embedding per row, received "
            f"shape {candidates.shape}."
        )
    if not candidates.dtype.is_floating:
        raise ValueError(
            "`candidates` must be floating-point embeddings, received "
            f"{candidates.dtype.name}."
        )
    candidates = tf.cast(candidates, tf.float32)
    # Long rows overflow here although they are finite: those are looked at again.
    with np.errstate(over="ignore", invalid="ignore"):
        doubtful = np.flatnonzero(~np.isfinite(squared_norms(candidates)))
    finite = np.isfinite(tf.gather(candidates, doubtful)).all(axis=1)
    if not finite.all():
        bad = doubtful[~finite]
        raise ValueError(
            f"`candidates` must be finite, but {len(bad)} rows hold NaN or infinity, "
            f"the first of them row {int(bad[0])}."
        )
    return candidates


def checked_queries(queries: TensorLike, width: int) -> tf.Tensor:
    """Returns sample queries as a finite, non-empty `[Q, width]` float32 tensor.

    Raises:
      ValueError: if they are anything else.
    """
    queries = tf.convert_to_tensor(queries)
    if queries.shape.rank != 2 or not len(queries) or queries.shape[1] != width:
        raise ValueError(
            f"Sample queries must have shape [queries, {width}] like the candidates, "
            f"received shape {queries.shape}. Pass embeddings, one per row."
        )
    if not queries.dtype.is_floating:
        raise ValueError(
            "Sample queries must be floating-point embeddings, received "
            f"{queries.dtype.name}."
        )
    queries = tf.cast(queries, tf.float32)
    if not np.isfinite(squared_norms(queries)).all():
        raise ValueError(
            "Sample queries must be finite and no longer than 1e19. Drop the others."
        )
    return queries


def squared_norms(rows: tf.Tensor) -> np.ndarray:
    """Squared lengths of the rows of an eager `[N, d]` tensor, as a NumPy array."""
    values = np.asarray(rows)
    # Without a copy of all candidates, unlike `tf.reduce_sum(tf.square(rows), axis=1)`.
    return np.einsum("nd,nd->n", values, values)
