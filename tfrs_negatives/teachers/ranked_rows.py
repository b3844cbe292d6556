"""The largest values of each row of a matrix, sparse or dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse


def keep_largest(matrix: Any, number: int) -> Any:
    """A sparse matrix without all but the largest values of each row.

    Args:
      matrix: [R, C] `csr_matrix` of float32 above 0, columns ascending.
      number: How many of a row remain. Of equal ones those of the first columns do.

    Returns:
      `csr_matrix` of the same shape.
    """
    if matrix.nnz == 0 or np.diff(matrix.indptr).max() <= number:
        return matrix
    order, places = _descending(matrix)
    kept = np.zeros(matrix.nnz, bool)
    kept[order[places < number]] = True
    ends = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    parts = matrix.data[kept], matrix.indices[kept], ends
    return scipy.sparse.csr_matrix(parts, matrix.shape)


def largest_of_sparse(matrix: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest values of each row, and their columns.

    Args:
      matrix: [R, C] `csr_matrix` of float32 above 0, columns ascending.
      number: How many.

    Returns:
      `(columns, values)`, [R, number] int64 and float32, values descending, of equal
      ones the first columns first. Behind what a row has, values are 0 and columns
      those of its largest value, or 0 in an empty row.
    """
    columns = np.zeros([matrix.shape[0], number], np.int64)
    values = np.zeros(columns.shape, np.float32)
    if matrix.nnz:
        order, places = _descending(matrix)
        inside = places < number
        order, places = order[inside], places[inside]
        rows = rows_of_entries(matrix)[order]
        columns[rows, places] = matrix.indices[order]
        values[rows, places] = matrix.data[order]
    return _filled(columns, values), values


def largest_of_dense(matrix: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """As `largest_of_sparse`, of a dense matrix; what is not above 0 is left out."""
    if number < matrix.shape[1]:
        last = matrix.shape[1] - number
        columns = np.sort(np.argpartition(matrix, last, axis=1)[:, last:], axis=1)
    else:
        columns = np.tile(np.arange(matrix.shape[1]), (len(matrix), 1))
    values = np.take_along_axis(matrix, columns, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, 1)
    values = np.maximum(np.take_along_axis(values, order, 1), 0)
    return _filled(columns, values), values


def rows_of_entries(matrix: Any) -> np.ndarray:
    """[nnz] int64, the row of each entry of a `csr_matrix`."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def entry_places(matrix: Any, width: int | None = None) -> np.ndarray:
    """[nnz] int64, where the entries are in all rows, one after the other.

    Args:
      matrix: [R, C] `csr_matrix`; if its columns ascend, so do places.
      width: What a row counts for, at least C; None: C.
    """
    return rows_of_entries(matrix) * (width or matrix.shape[1]) + matrix.indices


def _descending(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """The order of the entries by row and falling value, and each one's place in it."""
    # Bits of floats above 0 ascend as these do. One key, and so one sort.
    bits = matrix.data.astype(np.float32, copy=False).view(np.uint32).astype(np.int64)
    keys = rows_of_entries(matrix) * 2**32 - bits
    order = np.argsort(keys, kind="stable")
    starts = np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    return order, np.arange(matrix.nnz) - starts


def _filled(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    first = np.where(values[:, :1] > 0, columns[:, :1], 0)
    return np.where(values > 0, columns, first)
