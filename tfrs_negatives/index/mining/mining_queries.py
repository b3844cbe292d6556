"""Queries of mining, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives.types import TensorLike

# Candidates of all queries of a search: 100 MiB of scores and positions.
_FOUND = 2**23


def is_dataset(queries: TensorLike | tf.data.Dataset) -> bool:
    """Whether queries are streamed, their number unknown."""
    return isinstance(queries, tf.data.Dataset)


def batches(
    queries: TensorLike | tf.data.Dataset, batch_size: int
) -> Iterator[np.ndarray]:
    """Arrays of at most `batch_size` queries, in order."""
    if is_dataset(queries):
        spec = queries.element_spec
        if not isinstance(spec, tf.TensorSpec):
            raise ValueError(
                "A dataset of queries must yield batches of embeddings (or ids), "
                f"received elements {spec}. Map it first."
            )
        if queries.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`queries` must be finite: pass `dataset.take(n)`.")
    else:
        queries = [queries]
    for batch in queries:
        batch = checked(batch)
        for start in range(0, len(batch), batch_size):
            yield batch[start : start + batch_size]


def pieces(depths: np.ndarray) -> Iterator[slice]:
    """Cuts queries where a search would find too much at once.

    A query with very many positives is searched deeper than all others, and so by
    itself.

    Args:
      depths: `[b]` how many candidates each query needs.

    Yields:
      Slices of the queries, in order.
    """
    start, deepest = 0, 0
    for row, depth in enumerate(depths.tolist()):
        deepest = max(deepest, depth)
        if row > start and (row + 1 - start) * deepest > _FOUND:
            yield slice(start, row)
            start, deepest = row, depth
    if start < len(depths):
        yield slice(start, len(depths))


def checked(queries: TensorLike) -> np.ndarray:
    """Queries as an array, `[Q, d]` finite float32 or `[Q]` ids."""
    if tf.is_tensor(queries) and queries.dtype.is_floating:
        queries = tf.cast(queries, tf.float32)
    queries = np.asarray(queries)
    if not queries.ndim:
        raise ValueError("`queries` must be a matrix or a vector of ids, not a scalar.")
    if queries.dtype.kind != "f":
        return queries
    return finite("queries", queries, 2)


def finite(name: str, values: ArrayLike, rank: int) -> np.ndarray:
    """Checked float32 (if a matrix) or float64 (if a vector) array."""
    values = np.asarray(values, np.float32 if rank == 2 else np.float64)
    if values.ndim != rank:
        expected = "[queries, d]" if rank == 2 else "[queries]"
        raise ValueError(
            f"`{name}` must have shape {expected}, received {values.shape}."
        )
    finite = np.isfinite(values)
    finite = finite.all(axis=1) if rank == 2 else finite
    if not finite.all():
        raise ValueError(
            f"`{name}` must be finite, but {np.sum(~finite)} rows hold NaN or "
            f"infinity, the first of them row {np.argmin(finite)}."
        )
    return values
