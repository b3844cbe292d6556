"""Scores of EASE^R from the inverse among items, or among users."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg.lapack

from tfrs_negatives.teachers.parallel_blocks import even_blocks, in_parallel
from tfrs_negatives.teachers.ranked_rows import rows_of_entries

# Entries of dense matrices that a thread forms at once: 16 MB of float32.
ENTRIES = 2**22


class InverseAmongItems:
    """X B, with B = I - P / diag(P) of P = (X'X + l2 I)^-1.

    Args:
      matrix: X, [U, I] `csr_matrix` of float32.
      l2: Above 0.
      threads, progress: As `in_parallel` takes them.

    Raises:
      ValueError: P cannot be had in float32.
    """

    def __init__(
        self, matrix: Any, l2: float, threads: int | None, progress: bool
    ) -> None:
        weights = _inverse(matrix.T.tocsr(), l2, threads, progress, "item")
        np.divide(weights, -weights.diagonal(), out=weights)
        np.fill_diagonal(weights, 0)
        self._weights = weights

    def scores(self, matrix: Any) -> np.ndarray:
        """[n, I] float32, of the [n, I] histories of some users."""
        return matrix @ self._weights


class InverseAmongUsers:
    """The same from K^-1 = (XX' + l2 I)^-1: P = (I - X' K^-1 X) / l2, and X P = K^-1 X.

    Args:
      matrix, l2, threads, progress: As of `InverseAmongItems`.

    Raises:
      ValueError: K^-1 cannot be had in float32.
    """

    def __init__(
        self, matrix: Any, l2: float, threads: int | None, progress: bool
    ) -> None:
        self._inverse = _inverse(matrix, l2, threads, progress, "user")
        self._matrix, self._l2 = matrix, l2
        self._transposed = matrix.T.tocsr()
        num_items = matrix.shape[1]
        self._diagonal = np.empty(num_items, np.float64)
        blocks = even_blocks(num_items, 256)
        found = in_parallel(self._diagonal_of, blocks, threads, progress, "item")
        for block, diagonal in zip(blocks, found, strict=True):
            self._diagonal[block] = diagonal
        # By these, rows are found that are the same.
        bits = np.random.default_rng(0).integers(0, 2**63, num_items, np.uint64)
        self._bits = bits
        self._keys, self._rows = np.unique(self._keys_of(matrix), return_index=True)

    def scores(self, matrix: Any) -> np.ndarray:
        """[n, I] float32, of the [n, I] histories of some users."""
        rows = self._fitted_rows(matrix)
        new = np.flatnonzero(rows < 0)
        by_user = self._inverse[rows]
        if len(new):
            # -(x X') K^-1 / l2, to which x / l2 comes below.
            by_user[new] = (matrix[new] @ self._transposed) @ self._inverse
            by_user[new] /= -self._l2
        inverted = np.ascontiguousarray((self._transposed @ by_user.T).T)
        if len(new):
            entries = matrix[new].tocoo()
            inverted[new[entries.row], entries.col] += entries.data / self._l2
        scores = inverted * (-1 / self._diagonal).astype(np.float32)
        entries = matrix.tocoo()
        scores[entries.row, entries.col] += entries.data
        return scores

    def _diagonal_of(self, block: slice) -> list[float]:
        """Of P, for some items."""
        items = self._transposed
        diagonal = []
        for item in range(block.start, block.stop):
            entries = slice(items.indptr[item], items.indptr[item + 1])
            users, weights = items.indices[entries], items.data[entries]
            weights = weights.astype(np.float64)
            explained = 0.0
            for part in even_blocks(len(users), ENTRIES // max(len(users), 1)):
                among = self._inverse[np.ix_(users[part], users)]
                explained += weights[part] @ (among.astype(np.float64) @ weights)
            diagonal.append((1 - explained) / self._l2)
        return diagonal

    def _fitted_rows(self, matrix: Any) -> np.ndarray:
        """[n], which row of X each row of a matrix is equal to, -1 where to none."""
        keys = self._keys_of(matrix)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        rows = self._rows[places]
        lengths = np.diff(matrix.indptr)
        alike = (self._keys[places] == keys) & (
            lengths == np.diff(self._matrix.indptr)[rows]
        )
        # Keys of two rows may be one by chance.
        ours, theirs = matrix[alike], self._matrix[rows[alike]]
        differ = (ours.indices != theirs.indices) | (ours.data != theirs.data)
        row_of_entry = np.flatnonzero(alike)[rows_of_entries(ours)]
        alike[row_of_entry[differ]] = False
        return np.where(alike, rows, -1)

    def _keys_of(self, matrix: Any) -> np.ndarray:
        """[n] uint64 that tell rows apart."""
        weights = matrix.data.view(np.uint32).astype(np.uint64)
        terms = self._bits[matrix.indices] * (2 * weights + 1)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
        return np.diff(sums[matrix.indptr])


def _inverse(
    matrix: Any, l2: float, threads: int | None, progress: bool, unit: str
) -> np.ndarray:
    """(M M' + l2 I)^-1, [n, n] float32, of M [n, m], formed in place."""
    size = matrix.shape[0]
    kernel = np.empty([size, size], np.float32)
    transposed = matrix.T.tocsr()

    def fill(block: slice) -> None:
        (matrix[block] @ transposed).toarray(out=kernel[block])

    blocks = even_blocks(size, ENTRIES // size)
    for _ in in_parallel(fill, blocks, threads, progress, unit):
        pass
    kernel[np.diag_indices(size)] += l2
    # LAPACK's matrices are transposed, which symmetric ones do not mind. What is its
    # lower triangle is the upper one here.
    solved, failed = scipy.linalg.lapack.spotrf(
        kernel.T, lower=1, clean=0, overwrite_a=1
    )
    if not failed:
        solved, failed = scipy.linalg.lapack.spotri(solved, lower=1, overwrite_c=1)
    if failed:
        raise ValueError(
            f"EASE with `l2` {l2:g} cannot be solved in float32: items or users are "
            "too much alike. Raise `l2`."
        )
    inverse = solved.T
    for rows in even_blocks(size, 1024):
        below = slice(rows.stop, None)
        corner = np.triu(inverse[rows, rows])
        inverse[rows, rows] = corner + np.triu(corner, 1).T
        inverse[below, rows] = inverse[rows, below].T
    return inverse
